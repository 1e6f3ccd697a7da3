"""What on_confirm is told, as the numbers that are confirmed."""


class Confirmed:
    """The confirms of a channel, whose on_confirm it becomes; nothing may be refused.

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
