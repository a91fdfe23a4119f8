// Node's fetch: GETs URL, or PUTs the file UPLOAD to it. NODE_USE_ENV_PROXY makes it use the proxy that HTTPS_PROXY names.
import { openAsBlob } from "node:fs";

const { URL: url, UPLOAD: upload } = process.env;
const asks = upload ? { method: "PUT", body: await openAsBlob(upload) } : {};
const answer = await fetch(url, asks);
const body = await answer.text();
if (!answer.ok) {
    console.error(`status ${answer.status} ${answer.statusText}`);
    process.exit(1);
}
console.log(body);
