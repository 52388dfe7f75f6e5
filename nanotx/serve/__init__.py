"""Serve runs on 127.0.0.1: a page to play with them, and the APIs of completions and chats that OpenAI's client speaks.

`server` starts it, `app` lists the routes, `guard` says whom it answers, `worker` runs one generation at a time,
`continuation` is that generation, `completions` and `chat` are the API, and `playground` is what the page asks for. It
needs starlette and uvicorn (`pip install starlette uvicorn`), which nothing else imports.
"""
