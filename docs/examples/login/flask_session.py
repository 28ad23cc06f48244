"""Flask's session says who asks; with Flask-Login, `current_user` does in the same place."""

from flask import Flask, request, session
from werkzeug.exceptions import Forbidden
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import CopilotRuntime, User, text_agent

app = Flask(__name__)
app.secret_key = "change me"
# Lax cookies are not sent with requests that another site's page makes.
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
PASSWORDS = {"ann": "secret-1", "bob": "secret-2"}  # hashes, in a table of yours


@app.post("/login")
def login():
    name = request.form["name"]
    if PASSWORDS.get(name) != request.form["password"]:
        raise Forbidden("wrong name or password")
    session["name"] = name
    return "welcome"


def identify_user(asked):
    # The environ is Flask's own, so that all that its requests can be asked can be asked here.
    with app.request_context(asked.environ):
        # A page of the application sends a header that no other site's page may send.
        if request.method not in ("GET", "HEAD") and "x-requested-with" not in request.headers:
            raise Forbidden("x-requested-with is missing")
        name = session.get("name")
    return User(name) if name else None


@text_agent
def hello(input, context):
    yield f"Hello {context.user.id}"


runtime = CopilotRuntime({"default": hello}, identify_user=identify_user, cors=False)
copilot = CopilotWSGI(runtime)
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/api/copilotkit": copilot})

if __name__ == "__main__":
    copilot.close_on_signals()
    app.run(port=4000)
