"""The edge's side of the HTTP/2 carrier: agents that ask for requests and post their replies."""
