"""Python's urllib: GETs URL, or PUTs the file UPLOAD to it. The proxy comes from HTTPS_PROXY."""

import os
import urllib.request

url, upload = os.environ["URL"], os.environ.get("UPLOAD")
if upload:
    with open(upload, "rb") as body:
        request = urllib.request.Request(url, body, {"Content-Length": str(os.path.getsize(upload))}, method="PUT")
        print(urllib.request.urlopen(request).read().decode())
else:
    print(urllib.request.urlopen(url).read().decode())
