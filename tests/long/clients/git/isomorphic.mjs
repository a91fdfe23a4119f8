// isomorphic-git: isomorphic.mjs ACT URL FOLDER [WORD…]. Credentials are in the URL. MODULES is the folder of its packages.
import fs from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(process.env.MODULES + '/');
const git = require('isomorphic-git');

// Its own http client knows no proxy; Node's fetch does, with NODE_USE_ENV_PROXY.
const http = {
    async request({ url, method = 'GET', headers = {}, body }) {
        let sent;
        if (body) {
            const pieces = [];
            for await (const piece of body) pieces.push(piece);
            sent = Buffer.concat(pieces);
        }
        const answer = await fetch(url, { method, headers, body: sent });
        const bytes = new Uint8Array(await answer.arrayBuffer());
        const fields = Object.fromEntries(answer.headers.entries());
        return { url: answer.url, method, statusCode: answer.status, statusMessage: answer.statusText, headers: fields, body: [bytes] };
    },
};

const [act, whole, folder, ...words] = process.argv.slice(2);
const dir = fs.existsSync(`${folder}/.git`) ? `${folder}/.git` : folder;
const url = new URL(whole);
const auth = { username: decodeURIComponent(url.username), password: decodeURIComponent(url.password) };
url.username = url.password = '';
const asks = { fs, http, url: url.href, onAuth: () => auth, onAuthFailure: () => ({ cancel: true }), onMessage: (text) => console.error('remote: ' + text.trim()) };
try {
    if (act === 'clone') {
        await git.init({ fs, gitdir: dir, bare: true });
        await git.addRemote({ fs, gitdir: dir, remote: 'origin', url: url.href });
        await git.setConfig({ fs, gitdir: dir, path: 'remote.origin.fetch', value: '+refs/heads/*:refs/heads/*' });
        await git.fetch({ ...asks, gitdir: dir, remote: 'origin', tags: true, depth: words[0] ? Number(words[0]) : undefined, singleBranch: false });
    } else if (act === 'fetch') {
        await git.fetch({ ...asks, gitdir: dir, remote: 'origin', tags: true, singleBranch: false });
    } else {
        for (const word of words) {
            const [from, remoteRef] = word.replace(/^\+/, '').split(':');
            const result = await git.push({ ...asks, gitdir: dir, ref: from || undefined, remoteRef, delete: !from, force: word.startsWith('+') });
            if (!result.ok) throw new Error(JSON.stringify(result));
        }
    }
} catch (error) {
    console.error(`${error.name}: ${error.message}`, JSON.stringify(error.data ?? null));
    process.exit(1);
}
