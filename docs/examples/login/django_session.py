"""Django's sessions, CSRF protection and `request.user`, in the place of a project's wsgi.py."""

import io
from pathlib import Path

import django
import waitress
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, HttpResponseForbidden
from django.middleware.csrf import get_token
from django.urls import path

from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import CopilotRuntime, Reject, Response, User, text_agent

# A project has all of this already.
settings.configure(
    SECRET_KEY="change me",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path("accounts.sqlite3")}
    },
)
django.setup()

from django.contrib import auth  # noqa: E402
from django.contrib.auth.middleware import AuthenticationMiddleware  # noqa: E402
from django.contrib.sessions.middleware import SessionMiddleware  # noqa: E402
from django.core.handlers.wsgi import WSGIRequest  # noqa: E402
from django.db import close_old_connections  # noqa: E402
from django.middleware.csrf import CsrfViewMiddleware  # noqa: E402


def form(request):
    return HttpResponse(get_token(request))


def login(request):
    name, password = request.POST["name"], request.POST["password"]
    user = auth.authenticate(request, username=name, password=password)
    if user is None:
        return HttpResponseForbidden("wrong name or password")
    auth.login(request, user)
    return HttpResponse(get_token(request))


urlpatterns = [path("form", form), path("login", login)]


def identify_user(request):
    # The body is left to the runtime; Django looks for a token in the header X-CSRFToken then.
    asked = WSGIRequest({**request.environ, "wsgi.input": io.BytesIO()})
    close_old_connections()
    SessionMiddleware(HttpResponse).process_request(asked)
    AuthenticationMiddleware(HttpResponse).process_request(asked)
    csrf = CsrfViewMiddleware(HttpResponse)
    csrf.process_request(asked)
    if csrf.process_view(asked, None, (), {}) is not None:
        raise Reject(Response.json({"error": "the CSRF token is missing or wrong"}, 403))
    if not asked.user.is_authenticated:
        return None
    # The primary key is for ever, and a name may be given to somebody else.
    return User(str(asked.user.pk), data={"name": asked.user.get_username()})


@text_agent
def hello(input, context):
    yield f"Hello {context.user.data['name']}"


runtime = CopilotRuntime({"default": hello}, identify_user=identify_user, cors=False)
copilot = CopilotWSGI(runtime)
site = get_wsgi_application()


def application(environ, start_response):
    ours = environ["PATH_INFO"].startswith("/api/copilotkit")
    return (copilot if ours else site)(environ, start_response)


if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    users = auth.get_user_model().objects
    for name, password in (("ann", "secret-1"), ("bob", "secret-2")):
        if not users.filter(username=name).exists():
            users.create_user(name, password=password)
    copilot.close_on_signals()
    waitress.serve(application, host="127.0.0.1", port=4000, threads=100)
