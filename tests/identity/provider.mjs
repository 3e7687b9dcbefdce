// A real OpenID Connect provider on a free port of loopback, whose users sign in without a page. Its first line on stdout is
// its issuer; it ends when its stdin does. What tests change of it goes through /control, which is not OpenID Connect.

import { createServer } from 'node:http';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import Provider, { interactionPolicy } from 'oidc-provider';

const AUDIENCE = 'backoffice-gateway';
const RESOURCES = { 'urn:gateway:jwt': 'jwt', 'urn:gateway:opaque': 'opaque' };

const rows = new Map();
const keys = [];
const users = new Map();
let next = {};
let down = false;
let requests = [];
let provider;

/** What the provider keeps, in memory: it survives a change of keys, for which a new Provider takes over. */
class Rows {
  constructor(model) {
    this.model = model;
  }

  async upsert(id, payload) {
    rows.set(`${this.model}:${id}`, payload);
  }

  async find(id) {
    const row = rows.get(`${this.model}:${id}`);
    return row?.exp !== undefined && row.exp * 1000 <= Date.now() ? undefined : row;
  }

  async findByUid(uid) {
    return [...rows].find(([key, row]) => key.startsWith(`${this.model}:`) && row.uid === uid)?.[1];
  }

  async findByUserCode(userCode) {
    return [...rows].find(([key, row]) => key.startsWith(`${this.model}:`) && row.userCode === userCode)?.[1];
  }

  async consume(id) {
    rows.get(`${this.model}:${id}`).consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    rows.delete(`${this.model}:${id}`);
  }

  async revokeByGrantId(grantId) {
    for (const [key, row] of rows) if (row.grantId === grantId) rows.delete(key);
  }
}

function newKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' };
}

/** Somebody who is asked for a stronger sign-in than theirs was signs in again. */
function policy() {
  const base = interactionPolicy.base();
  base.get('login').checks.add(
    new interactionPolicy.Check('acr_not_met', 'a stronger sign-in is asked for', (ctx) => {
      const asked = ctx.oidc.params.acr_values?.split(' ') ?? [];
      return asked.length > 0 && !asked.includes(ctx.oidc.session.acr);
    }),
  );
  return base;
}

function build(issuer) {
  const made = new Provider(issuer, {
    adapter: Rows,
    jwks: { keys: [...keys] },
    acrValues: ['1', 'mfa'],
    claims: {
      openid: ['sub', 'acr', 'amr', 'auth_time'],
      email: ['email', 'email_verified'],
      profile: ['name', 'roles', 'groups', 'organisations', 'tid', 'oid'],
    },
    conformIdTokenClaims: false,
    cookies: { keys: ['for tests alone'] },
    interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}`, policy: policy() },
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ ...users.get(id), sub: id }) }),
    // What a resource server needs to know stands in access tokens, too, as firms' issuers are set up.
    extraTokenClaims: (ctx, token) => {
      if (!token.accountId) return undefined;
      const { acr, amr, authTime } = ctx.oidc.entities.AuthorizationCode ?? ctx.oidc.entities.RefreshToken ?? {};
      return JSON.parse(JSON.stringify({ ...users.get(token.accountId), acr, amr, auth_time: authTime }));
    },
    issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
    // The library's own way out refuses loopback, which is where everything is here.
    fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
    features: {
      backchannelLogout: { enabled: true },
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      introspection: { enabled: true, allowedPolicy: () => true },
      revocation: { enabled: true },
      rpInitiatedLogout: {
        enabled: true,
        // The form's button, pressed by whoever reads the page.
        logoutSource: (ctx, form) => {
          ctx.body = `<!DOCTYPE html>${form.replace('</form>', '<input type="hidden" name="logout" value="yes"/></form>')}`;
        },
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        useGrantedResource: () => true,
        getResourceServerInfo: (ctx, resource) => ({
          scope: 'portal',
          audience: AUDIENCE,
          accessTokenTTL: 600,
          accessTokenFormat: RESOURCES[resource] ?? 'jwt',
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
  });
  made.on('server_error', (ctx, error) => console.error(error));
  return made;
}

/** Signs in whoever was said, and agrees to everything. */
async function interaction(request, response) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
  if (next.error) {
    const result = { error: next.error, error_description: 'as the test wished' };
    await provider.interactionFinished(request, response, result);
    return;
  }
  if (prompt.name === 'login') {
    const acr = next.acr ?? params.acr_values?.split(' ')[0] ?? '1';
    const amr = next.amr ?? (acr === 'mfa' ? ['pwd', 'otp', 'mfa'] : ['pwd']);
    const accountId = params.login_hint ?? next.user;
    await provider.interactionFinished(request, response, { login: { accountId, acr, amr } });
    return;
  }
  const grant =
    (grantId && (await provider.Grant.find(grantId))) ||
    new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope('openid email profile offline_access');
  for (const resource of Object.keys(RESOURCES)) grant.addResourceScope(resource, 'portal');
  const result = { consent: { grantId: await grant.save() } };
  await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
}

/** Ends a user's sessions here, as an administrator does, and tells every client that asked to be told. */
async function logOut(user) {
  const told = [];
  for (const [key, session] of [...rows]) {
    if (!key.startsWith('Session:') || session.accountId !== user) continue;
    for (const [clientId, { sid }] of Object.entries(session.authorizations ?? {})) {
      const client = await provider.Client.find(clientId);
      if (!client?.backchannelLogoutUri) continue;
      const error = await client.backchannelLogout(user, sid).then(() => null, String);
      told.push({ clientId, sid, error });
    }
    rows.delete(key);
  }
  return told;
}

const control = {
  clients: async (body) => new Rows('Client').upsert(body.client_id, body),
  users: async (body) => Object.entries(body).forEach(([id, claims]) => users.set(id, claims)),
  next: async (body) => {
    next = body;
  },
  down: async (body) => {
    down = body.down;
  },
  keys: async (body) => {
    keys.unshift(newKey());
    if (!body.keep) keys.length = 1;
    provider = build(provider.issuer);
    return { kid: keys[0].kid };
  },
  logout: async (body) => logOut(body.user),
  requests: async () => requests.splice(0),
};

const server = createServer(async (request, response) => {
  const [, first, second] = request.url.split('?')[0].split('/');
  if (first === 'control') {
    let text = '';
    for await (const part of request) text += part;
    const answer = await control[second](text ? JSON.parse(text) : {});
    response.setHeader('Content-Type', 'application/json');
    response.end(JSON.stringify(answer ?? null));
    return;
  }
  requests.push(`${request.method} ${request.url.split('?')[0]}`);
  if (down) {
    response.writeHead(503).end('down');
  } else if (first === 'interaction') {
    await interaction(request, response);
  } else {
    provider.callback()(request, response);
  }
});

server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  keys.push(newKey());
  provider = build(issuer);
  console.log(issuer);
});
process.stdin.on('end', () => process.exit(0)).resume();
