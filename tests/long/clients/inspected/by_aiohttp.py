"""Python's aiohttp: GETs URL, or PUTs the file UPLOAD to it. `trust_env` makes it use HTTPS_PROXY."""

import asyncio
import os

import aiohttp


async def main():
    url, upload = os.environ["URL"], os.environ.get("UPLOAD")
    async with aiohttp.ClientSession(trust_env=True, raise_for_status=True) as session:
        if upload:
            with open(upload, "rb") as body:
                async with session.put(url, data=body) as answer:
                    print(await answer.text())
        else:
            async with session.get(url) as answer:
                print(await answer.text())


asyncio.run(main())
