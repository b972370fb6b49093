"""What the machine raises."""


class MachineError(RuntimeError):
    """A kernel did what a GPU forbids, or the text holds what the machine doesn't know.

    The message names the PTX line and, where a thread is to blame, its block and thread.
    """


class Fault(Exception):
    """A fault inside one instruction, before the executor adds line, block and thread.

    Parameters
    ----------
    text : str
        What went wrong.
    lane : int, optional
        The lane to blame.
    """

    def __init__(self, text, lane=None):
        super().__init__(text)
        self.text = text
        self.lane = lane
