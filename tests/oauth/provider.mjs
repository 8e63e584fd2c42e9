// A real authorization server on loopback, for the tests: `node provider.mjs NODE_MODULES SETTINGS`.
//
// Says on stdout, a JSON document a line: where it is, then each grant, refusal and revocation. Leaves when its
// stdin ends.

import http from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [modules, given] = process.argv.slice(2);
const settings = { accessToken: 3600, deviceCode: 600, code: 60, rotate: true, registration: true, ...JSON.parse(given) };
const require = createRequire(`${modules}/`);
const { default: Provider, errors } = await import(pathToFileURL(require.resolve('oidc-provider')).href);

// oidc-provider warns on stdout; that is for our own lines.
console.info = console.warn = console.log = console.error;
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const server = http.createServer();
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const issuer = `http://127.0.0.1:${server.address().port}${settings.path ?? ''}`;
const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code';

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: 'by-hand', application_type: 'native', token_endpoint_auth_method: 'none',
      redirect_uris: ['http://127.0.0.1/callback'], response_types: ['code'],
      grant_types: ['authorization_code', 'refresh_token', DEVICE],
    },
    {
      client_id: 'with secret', client_secret: 'a secret: 50% & more', application_type: 'native',
      token_endpoint_auth_method: 'client_secret_basic', redirect_uris: ['http://127.0.0.1/callback'],
      response_types: ['code'], grant_types: ['authorization_code', 'refresh_token'],
    },
  ],
  clientBasedCORS: () => false,
  cookies: { keys: ['only for tests'] },
  scopes: ['openid', 'offline_access', 'read'],
  pkce: { required: () => true },
  rotateRefreshToken: settings.rotate,
  issueRefreshToken: async (ctx, client, code) => code.scopes.has('offline_access'),
  features: {
    deviceFlow: { enabled: true },
    revocation: { enabled: true, allowedPolicy: () => true },
    introspection: { enabled: true, allowedPolicy: () => true },
    registration: { enabled: settings.registration },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => {
        if (!resource.startsWith('urn:tests:')) throw new errors.InvalidTarget();
        return { scope: 'read', audience: resource, accessTokenFormat: 'opaque', accessTokenTTL: settings.accessToken };
      },
    },
  },
  ttl: {
    AccessToken: settings.accessToken, AuthorizationCode: settings.code, DeviceCode: settings.deviceCode,
    RefreshToken: 86400, Grant: 86400, Interaction: 600, Session: 86400, IdToken: 600,
  },
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
});
provider.proxy = false;
provider.on('grant.success', (ctx) => say({ granted: ctx.oidc.params.grant_type }));
provider.on('grant.error', (ctx, error) => say({ refused: error.error, why: error.error_description ?? null }));
provider.on('grant.revoked', () => say({ revoked: 'grant' }));
provider.on('registration_create.success', (ctx, client) => say({ registered: client.clientId }));
provider.on('server_error', (ctx, error) => console.error(error));

const callback = provider.callback();
server.on('request', (request, response) => {
  // What a test asks: whether a token is still good.
  if (settings.path && request.url.startsWith(settings.path)) request.url = request.url.slice(settings.path.length) || '/';
  callback(request, response);
});
say({ issuer });
process.stdin.on('end', () => process.exit(0)).resume();
