"""The parts of a step: `letsam.optimizer` puts them together, and nothing else imports them but tools around a step.

`wrapper` is torch's optimizer contract, `record` what one step has seen, `replay` the buffers and random numbers of its
passes, `ascent` and `descent` its two halves, `undo` the way back from a step that is not finite, `ranks` and
`precision` what several processes and a gradient scaler add.
"""
