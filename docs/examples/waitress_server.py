"""waitress. A stream keeps its thread for as long as it lasts, and the default is 4 threads."""

import waitress
from wsgi_app import app

if __name__ == "__main__":
    app.close_on_signals()
    waitress.serve(app, host="127.0.0.1", port=4000, threads=100, connection_limit=1000)
