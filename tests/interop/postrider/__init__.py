"""A client of Postrider relays in Python, written from docs/protocol.md alone.

`wire` is the binary form to the byte, `identity` keys and signatures, `relay` the calls, `attachment` the chunks of what
travels beside an envelope, `stream` the WebSocket, `moving` the order of calls that takes a mailbox to another relay.
"""
