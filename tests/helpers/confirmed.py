"""An on_confirm callback that collects the numbers of the confirmed messages."""


class Confirmed:
    """Becomes the on_confirm of a channel, and fails if a message is refused.

    numbers: those that are confirmed so far.
    """

    def __init__(self, channel):
        self.numbers = set()
        self._lowest = 1
        channel.on_confirm = self._on_confirm

    def _on_confirm(self, number, multiple, ok):
        assert ok
        told = set(range(self._lowest, number + 1)) if multiple else {number}
        if multiple:
            self._lowest = number + 1
        else:
            assert number not in self.numbers, f'{number} is confirmed twice'
        self.numbers.update(told)
