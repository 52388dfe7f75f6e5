"""Serve runs on 127.0.0.1: a page to play with them, and the completions API that the OpenAI client speaks.

`server` starts it, `app` lists the routes, `guard` says whom it answers, `worker` runs one generation at a time,
`continuation` is that generation, `completions` is the API, and `playground` is what the page asks for. It needs
starlette and uvicorn (`pip install starlette uvicorn`), which nothing else imports.
"""
