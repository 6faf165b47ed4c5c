"""The messages that workloads send: what a script, a browser and a chatty client say, and what a server answers."""

from __future__ import annotations

BARE_REQUEST = b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"

_BROWSER_FIELDS = (
    b"Host: shop.example\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 "
    b"Safari/537.36\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Accept-Language: en-US,en;q=0.9,de;q=0.8\r\n"
    b"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n"
    b"Sec-Fetch-Dest: document\r\n"
    b"Sec-Fetch-Mode: navigate\r\n"
    b"Sec-Fetch-Site: none\r\n"
    b"Upgrade-Insecure-Requests: 1\r\n"
)
BROWSER_REQUEST = b"GET /catalogue/lamps?page=2 HTTP/1.1\r\n" + _BROWSER_FIELDS + b"\r\n"

_MORE_FIELDS = b"".join(b"X-Client-Setting-%02d: value of setting number %d\r\n" % (n, n) for n in range(20))
THIRTY_FIELDS_REQUEST = b"GET /catalogue/lamps?page=2 HTTP/1.1\r\n" + _BROWSER_FIELDS + _MORE_FIELDS + b"\r\n"

POST_1K = b"".join(
    (
        b"POST /orders HTTP/1.1\r\n",
        _BROWSER_FIELDS,
        b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 1024\r\n\r\n",
        b"a=1&" * 256,
    )
)

RESPONSE_HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"Server: nginx/1.22.1\r\n"
    b"Date: Tue, 14 Nov 2023 22:13:20 GMT\r\n"
    b"Content-Type: text/html; charset=utf-8\r\n"
    b"Content-Length: 1024\r\n"
    b"Last-Modified: Mon, 13 Nov 2023 08:00:00 GMT\r\n"
    b"Connection: keep-alive\r\n"
    b'ETag: "6551d7c0-400"\r\n'
    b"Accept-Ranges: bytes\r\n"
    b"\r\n"
)
RESPONSE = RESPONSE_HEAD + b"<p>lamp" * 146 + b"\r\n"
