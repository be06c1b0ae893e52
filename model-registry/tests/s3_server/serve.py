"""Moto's S3 server on the port given (0: any), which it prints; ends when its standard input does.

`moto_server` answers on many threads, and checks a condition and writes in two steps: of two conditional writes at once
both may pass, as on no S3. One request at a time makes the two steps one.
"""

import os
import sys
import threading

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server


def end_with_the_test():
    sys.stdin.read()
    os._exit(0)


app = DomainDispatcherApplication(create_backend_app)
server = make_server("127.0.0.1", int(sys.argv[1]), app, threaded=False, request_handler=MotoRequestHandler)
print(server.server_port, flush=True)
threading.Thread(target=end_with_the_test, daemon=True).start()
server.serve_forever()
