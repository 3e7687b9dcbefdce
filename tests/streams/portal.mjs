// What portals do with graphql-ws and graphql-sse: prints each thing that happens as one line of JSON.
//   node portal.mjs ws|sse|sse-single-result <address> <token> <operation>
import { createClient as overEvents } from 'graphql-sse';
import { createClient as overSocket } from 'graphql-ws';
import WebSocket from 'ws';

const [, , way, address, token, query] = process.argv;
const say = (what) => process.stdout.write(JSON.stringify(what) + '\n');
const authorization = `Bearer ${token}`;

const client =
  way === 'ws'
    ? overSocket({
        url: address.replace('http', 'ws'),
        webSocketImpl: WebSocket,
        connectionParams: { authorization },
        retryAttempts: 0,
        keepAlive: 200,
        on: {
          connected: () => say({ connected: true }),
          pong: (received) => received && say({ pong: true }),
          closed: (event) => say({ closed: event.code, reason: event.reason }),
        },
      })
    : overEvents({ url: address, headers: { authorization }, retryAttempts: 0 });

client.subscribe(
  { query },
  {
    next: (result) => say({ next: result }),
    error: (error) => say({ error: String(error.reason ?? error.message ?? JSON.stringify(error)) }),
    complete: () => {
      say({ complete: true });
      client.dispose();
    },
  },
);
process.stdin.on('end', () => client.dispose());
process.stdin.resume();
