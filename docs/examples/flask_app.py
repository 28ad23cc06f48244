"""The runtime is mounted in Flask, below the path that the runtime answers."""

from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import CopilotRuntime, text_agent


@text_agent
def hello(input, context):
    yield from ("Hello", " from", " Flask")


app = Flask(__name__)
# CORS is the application's affair: the runtime's own default would undo its policy.
copilot = CopilotWSGI(CopilotRuntime({"default": hello}, cors=False))
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/api/copilotkit": copilot})


@app.get("/")
def index():
    return "a page of Flask's"


if __name__ == "__main__":
    copilot.close_on_signals()
    app.run(port=4000)
