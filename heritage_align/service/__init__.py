"""The service: search, rerank and explanations over HTTP (extra ``serve``; docs/service.md).

`create_app` makes an ASGI application of a `Catalogue`; ``heritage-align serve`` runs it with uvicorn (`workers`).
"""
