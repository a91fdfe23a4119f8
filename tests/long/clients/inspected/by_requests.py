"""Python's requests: GETs URL, or PUTs the file UPLOAD to it. The proxy comes from HTTPS_PROXY."""

import os

import requests

url, upload = os.environ["URL"], os.environ.get("UPLOAD")
if upload:
    with open(upload, "rb") as body:
        answer = requests.put(url, data=body, timeout=120)
else:
    answer = requests.get(url, timeout=120)
answer.raise_for_status()
print(answer.text)
