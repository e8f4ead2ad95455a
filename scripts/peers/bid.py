"""An update as a gateway sends it: what `grid load watch` measures all servers with."""

FIRST_AMOUNT = 1_000
ID = "00000000-0000-4000-8000-000000000003"


def bid(number: int, offset_ms: int) -> str:
    """The text of a bid that was to be made `offset_ms` after the beginning of the run."""
    minor = FIRST_AMOUNT + offset_ms
    money = f'{{"amount":"{minor // 100}.{minor % 100:02}","currency":"EUR"}}'
    return (
        f'{{"type":"bid_placed","auction_id":"{ID}","data":{{"bid_id":"{ID}","user_id":"bidder-1",'
        f'"amount":{money},"current_price":{money},"minimum_next":{money},"bids":{number},"reserve_met":true}},'
        f'"cursor":"2:{number}:0","timestamp":1790000000000}}'
    )
