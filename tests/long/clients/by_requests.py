"""GETs a URL through a proxy with Python's requests. The proxy's password is in its URL, as users write it.

Environment: URL, PROXY, CA, and for a client certificate CERT and KEY. The body goes to stdout."""

import os
import ssl
import sys

import requests
from requests.adapters import HTTPAdapter


class ByCertificate(HTTPAdapter):
    """requests has no option for a certificate to show to the proxy; urllib3, which it uses, has one."""

    def proxy_manager_for(self, proxy, **options):
        context = ssl.create_default_context(cafile=os.environ["CA"])
        context.load_cert_chain(os.environ["CERT"], os.environ["KEY"])
        return super().proxy_manager_for(proxy, proxy_ssl_context=context, **options)


session = requests.Session()
session.trust_env = False
session.proxies = {"https": os.environ["PROXY"]}
session.verify = os.environ["CA"]
if os.environ.get("CERT"):
    session.mount("https://", ByCertificate())
answer = session.get(os.environ["URL"], timeout=60)
answer.raise_for_status()
sys.stdout.buffer.write(answer.content)
