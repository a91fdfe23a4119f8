// GETs a URL through a proxy with undici's ProxyAgent. The proxy's password is in its URL.
//
// Environment: URL, PROXY, CA, and for a client certificate CERT and KEY; UNDICI is the path of the package. The body goes
// to stdout.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { ProxyAgent, request } = createRequire(process.env.UNDICI)("undici");

const { URL: url, PROXY, CA, CERT, KEY } = process.env;
const ca = readFileSync(CA);
const own = CERT ? { cert: readFileSync(CERT), key: readFileSync(KEY) } : {};
const dispatcher = new ProxyAgent({ uri: PROXY, proxyTls: { ca, ...own }, requestTls: { ca } });
const { statusCode, body } = await request(url, { dispatcher });
if (statusCode !== 200) throw new Error(`status ${statusCode}`);
process.stdout.write(Buffer.from(await body.arrayBuffer()));
await dispatcher.close();
