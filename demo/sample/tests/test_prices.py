import unittest

from shop.prices import format_price, parse_price, receipt


class PricesTest(unittest.TestCase):
    def test_a_price_is_shown_with_its_currency(self) -> None:
        self.assertEqual(format_price(1250), "12.50 EUR")

    def test_a_price_is_read_back(self) -> None:
        self.assertEqual(parse_price("12.5"), 1250)

    def test_a_receipt_ends_with_the_sum(self) -> None:
        self.assertEqual(receipt([100, 250]).splitlines()[-1], "sum 3.50 EUR")


if __name__ == "__main__":
    unittest.main()
