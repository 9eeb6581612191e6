"""Are the solutions of SGD, SAM and a learned radius flat, and do flat ones generalize?"""
