"""The runtime beside Django, in the place of a project's wsgi.py."""

import waitress
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import CopilotRuntime, text_agent


@text_agent
def hello(input, context):
    yield from ("Hello", " from", " Django's process")


# A project has these as modules of its own.
urlpatterns = [path("", lambda request: HttpResponse("a page of Django's"))]
settings.configure(SECRET_KEY="change me", ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__)

# CORS is the application's affair: the runtime's own default would undo its policy.
copilot = CopilotWSGI(CopilotRuntime({"default": hello}, cors=False))
django = get_wsgi_application()


def application(environ, start_response):
    ours = environ["PATH_INFO"].startswith("/api/copilotkit")
    return (copilot if ours else django)(environ, start_response)


if __name__ == "__main__":
    copilot.close_on_signals()
    waitress.serve(application, host="127.0.0.1", port=4000, threads=100)
