"""Prices in cents, and how they are shown."""


def parse_price(text: str) -> int:
    """Cents from a text such as `12.50`."""
    whole, _, cents = text.partition(".")
    return int(whole) * 100 + int(cents.ljust(2, "0")[:2] or 0)


def fmt_price(cents: int) -> str:
    """The price as people read it."""
    return f"{cents // 100}.{cents % 100:02d} EUR"


def receipt(prices: list[int]) -> str:
    """One line for each price, and the sum."""
    lines = [fmt_price(price) for price in prices]
    return "\n".join([*lines, "sum " + fmt_price(sum(prices))])
