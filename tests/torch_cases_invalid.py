INVALID = {}
STRICTER = []
WIDER = []


def check_invalid(*a): ...
