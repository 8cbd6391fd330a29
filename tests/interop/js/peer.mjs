// A js-libp2p peer (TCP, noise, yamux) that a test drives; it takes the same commands as the one in ../go.
//
// Its arguments are the file with a FileDescriptorSet of mlnet's service, and, if others than js-libp2p's own are wanted,
// the milliseconds between yamux's keepalives. Its first line on standard output is its own peer id and addresses; then
// it answers each line on standard input with one line, both JSON, and ends with the input. Beside that it serves ping,
// identify, /mlnet/grpc/1.0.0 and /mlnet/redis/1.0.0 to whoever connects.

import { createHash, randomBytes } from 'node:crypto'
import { once, setMaxListeners } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { pipeline } from 'node:stream/promises'
import grpc from '@grpc/grpc-js'
import { loadFileDescriptorSetFromBuffer } from '@grpc/proto-loader'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { peerIdFromString } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { watched, wireOf } from './wire.mjs'

// Node.js 20 lacks it, and libp2p's libraries use it.
Promise.withResolvers ??= function () {
  const all = {}
  all.promise = new Promise((resolve, reject) => Object.assign(all, { resolve, reject }))
  return all
}

const RPC = '/mlnet/grpc/1.0.0'
const SPLICED = '/mlnet/redis/1.0.0'
const SECONDS = 30
const STREAMS = { maxInboundStreams: 256, maxOutboundStreams: 256 }

const [descriptors, keepalive] = process.argv.slice(2)
const keepAlive = keepalive === undefined ? {} : { keepAliveInterval: Number(keepalive) }
const directory = mkdtempSync(join(tmpdir(), 'interop-'))
const host = await createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [watched(yamux(keepAlive))],
  services: { identify: identify(), ping: ping() }
})

// --- streams

// Sends all that a source has, at the pace of the other side, and the end.
async function send (stream, source) {
  for await (const data of source) if (!stream.send(data)) await stream.onDrain()
  await stream.close()
}

// Joins a libp2p stream and a socket, both ways, until both are done.
async function splice (stream, socket) {
  try {
    await Promise.all([send(stream, socket), pipeline(buffers(stream), socket)])
  } catch (error) {
    stream.abort(error)
    socket.destroy()
  }
}

async function * buffers (stream) {
  for await (const list of stream) yield Buffer.from(list.subarray())
}

// Reads a stream piece by piece: exactly(n) bytes, or whatever is next.
function reader (stream) {
  const source = buffers(stream)
  let rest = Buffer.alloc(0)
  async function more () {
    const { value, done } = await source.next()
    if (done) return false
    rest = Buffer.concat([rest, value])
    return true
  }
  async function exactly (size) {
    while (rest.length < size) if (!await more()) throw new Error('the stream ended early')
    const data = rest.subarray(0, size)
    rest = rest.subarray(size)
    return data
  }
  async function * remaining () {
    if (rest.length > 0) yield rest
    yield * source
  }
  return { exactly, remaining }
}

async function serveSpliced (stream, connection) {
  try {
    const input = reader(stream)
    const size = (await input.exactly(2)).readUInt16BE()
    const preamble = (await input.exactly(size)).toString()
    if (preamble === 'echo') {
      await send(stream, input.remaining())
    } else if (preamble === 'late') { // an answer after the question's end
      const question = []
      for await (const data of input.remaining()) question.push(data)
      await send(stream, question)
    } else if (preamble === 'hold') { // until the test has it read
      stream.pause()
      wireOf(connection).held.resolve({ stream, input })
    } else {
      await input.exactly(1)
      stream.abort(new Error(preamble))
    }
  } catch (error) {
    stream.abort(error)
  }
}

async function openStream (peer, protocol, signal) {
  return connectionTo(peer).newStream(protocol, { signal, ...STREAMS })
}

async function openSpliced (r, signal) {
  const stream = await openStream(r.peer, SPLICED, signal)
  signal.addEventListener('abort', () => stream.abort(new Error('too late')))
  const head = Buffer.alloc(2)
  head.writeUInt16BE(r.preamble.length)
  return { stream, head: Buffer.concat([head, Buffer.from(r.preamble)]) }
}

// Sends random bytes over `count` streams at once, half-closes them, and compares what comes back until their ends.
// Several streams wait for one another after their first byte, so that all of them are open at that time.
async function echo (r, signal) {
  let missing = r.count
  let proceed
  const together = new Promise(resolve => { proceed = resolve })
  const arrive = () => { if (--missing === 0) proceed() }

  async function one (number) {
    let input, opened, allow
    const allowed = new Promise(resolve => { allow = resolve })
    const sent = createHash('sha256')
    const received = createHash('sha256')
    let count = 0
    try {
      opened = await openSpliced(r, signal)
    } catch (error) {
      arrive()
      throw error
    }
    async function * output () {
      yield opened.head
      if (r.count > 1) {
        yield Buffer.from([number])
        await allowed
      }
      for (let left = r.bytes; left > 0; left -= 65536) {
        const data = randomBytes(Math.min(left, 65536))
        sent.update(data)
        yield data
      }
    }
    async function read () {
      input = reader(opened.stream)
      try {
        if (r.count > 1 && (await input.exactly(1))[0] !== number) throw new Error('another byte came back')
      } finally {
        arrive()
        await together
        allow()
      }
      for await (const data of input.remaining()) {
        received.update(data)
        count += data.length
      }
    }
    try {
      await Promise.all([send(opened.stream, output()), read()])
    } catch (error) {
      opened.stream.abort(error)
      throw error
    }
    if (count !== r.bytes || sent.digest('hex') !== received.digest('hex')) {
      throw new Error(`${count} bytes came back, and not those that were sent`)
    }
  }
  const results = await Promise.allSettled(Array.from({ length: r.count }, (_, number) => one(number)))
  const failed = results.find(result => result.status === 'rejected')
  if (failed) throw failed.reason
  return { bytes: r.count * r.bytes }
}

// Opens a stream to an echo, sees that it works, and resets it.
async function reset (r, signal) {
  const { stream, head } = await openSpliced(r, signal)
  stream.send(Buffer.concat([head, Buffer.from('echo')]))
  const answer = await reader(stream).exactly(4)
  stream.abort(new Error('enough'))
  if (answer.toString() !== 'echo') throw new Error('other bytes came back')
  return {}
}

// Opens a stream, sends zeros as long as it can, and tells how the other side ends it.
async function end (r, signal) {
  const { stream, head } = await openSpliced(r, signal)
  send(stream, [head, Buffer.alloc(r.bytes)]).catch(() => {}) // reading tells
  try {
    for await (const _ of stream);
    return { end: 'end of file' }
  } catch (error) {
    if (error.name === 'StreamResetError') return { end: 'reset' }
    throw error
  } finally {
    stream.abort(new Error('done'))
  }
}

// Opens a stream, sends random bytes and the end at whatever pace the other side has, and does not wait for that.
async function hold (r, signal) {
  const { stream, head } = await openSpliced(r, signal)
  const sent = createHash('sha256')
  async function * output () {
    yield head
    for (let left = r.bytes; left > 0; left -= 65536) {
      const data = randomBytes(Math.min(left, 65536))
      sent.update(data)
      yield data
    }
  }
  wireOf(connectionTo(r.peer)).written = send(stream, output()).then(
    () => ({ bytes: r.bytes, sha256: sent.digest('hex') }),
    error => ({ error: error.message })
  )
  return {}
}

// Reads a stream that was opened with the preamble 'hold', to its end.
async function readHeld (r) {
  const { stream, input } = await wireOf(connectionTo(r.peer)).held.promise
  const received = createHash('sha256')
  let bytes = 0
  stream.resume()
  for await (const data of input.remaining()) {
    received.update(data)
    bytes += data.length
  }
  await stream.close()
  return { bytes, sha256: received.digest('hex') }
}

// --- gRPC: grpc-js on unix sockets, whose connections are joined with libp2p streams

const definition = loadFileDescriptorSetFromBuffer(readFileSync(descriptors), { arrays: true, bytes: String, longs: String })
const service = definition['mlnet.v1.PeerService']
const texts = []

async function serveRpc () {
  const server = new grpc.Server()
  server.addService(service, {
    Send (call, done) {
      texts.push(call.request.envelope.yaml)
      done(null, { accepted: true })
    },
    Exchange (call) {
      let count = 0
      call.on('data', frame => {
        const acknowledgements = frame.envelopes.map((envelope, index) => {
          texts.push(envelope.yaml)
          count++
          return { sequence: frame.sequences[index] ?? String(count), outcome: 'OUTCOME_ACCEPTED' }
        })
        if (acknowledgements.length > 0) call.write({ acknowledgements })
      })
      call.on('end', () => call.end())
      call.on('error', () => {})
    }
  })
  const path = join(directory, 'server')
  await new Promise((resolve, reject) => {
    server.bindAsync(`unix:${path}`, grpc.ServerCredentials.createInsecure(), error => error ? reject(error) : resolve())
  })
  await host.handle(RPC, stream => splice(stream, connect(path)), STREAMS)
  return server
}

// Sends all messages over one grpc-js call, and returns the answers.
async function call (r, signal) {
  const path = join(directory, `client-${r.n}`)
  const bridge = createServer(async socket => splice(await openStream(r.peer, RPC, signal), socket))
  bridge.listen(path)
  await once(bridge, 'listening')
  const method = service[r.method.split('/').at(-1)]
  const client = new grpc.Client(`unix:${path}`, grpc.credentials.createInsecure(), { 'grpc.default_authority': 'mlnet' })
  try {
    const deadline = Date.now() + SECONDS * 1000
    // On the wire a call with one message either way is a stream of one.
    const stream = client.makeBidiStreamRequest(
      method.path, method.requestSerialize, method.responseDeserialize, new grpc.Metadata(), { deadline }
    )
    const messages = []
    stream.on('data', message => messages.push(message))
    for (const message of r.messages) stream.write(message)
    stream.end()
    const status = await new Promise(resolve => {
      stream.on('error', () => {})
      stream.on('status', resolve)
    })
    if (status.code === grpc.status.OK) return { messages }
    return { messages, code: status.code, details: status.details }
  } finally {
    client.close()
    bridge.close()
  }
}

// --- commands

function connectionTo (peer) {
  const connection = host.getConnections(peerIdFromString(peer))[0]
  if (connection === undefined) throw new Error('not connected')
  return connection
}

// Waits until a peer is connected, or is not.
async function untilConnected (id, wanted, signal) {
  const peer = peerIdFromString(id)
  while (host.getConnections(peer).length > 0 !== wanted) {
    await new Promise(resolve => {
      host.addEventListener(wanted ? 'peer:connect' : 'peer:disconnect', resolve, { once: true, signal })
    })
  }
}

const commands = {
  async dial (r, signal) {
    await host.dial(multiaddr(r.address), { signal })
    return {}
  },
  async ping (r, signal) {
    const microseconds = []
    while (microseconds.length < r.count) {
      microseconds.push(1000 * await host.services.ping.ping(peerIdFromString(r.peer), { signal }))
    }
    return { microseconds }
  },
  async identify (r, signal) {
    const { agentVersion, protocols, listenAddrs, observedAddr } =
      await host.services.identify.identify(connectionTo(r.peer), { signal })
    return { agent: agentVersion, protocols, addresses: listenAddrs, observed: observedAddr }
  },
  async received () {
    return { received: texts }
  },
  async 'hang up' (r, signal) {
    await host.hangUp(peerIdFromString(r.peer), { signal })
    return {}
  },
  async 'until connected' (r, signal) {
    await untilConnected(r.peer, true, signal)
    return {}
  },
  async 'until gone' (r, signal) {
    await untilConnected(r.peer, false, signal)
    return {}
  },
  async 'until stalled' (r, signal) {
    return wireOf(connectionTo(r.peer)).untilStalled(signal)
  },
  async 'until answered' (r, signal) {
    const wire = wireOf(connectionTo(r.peer))
    await wire.until(() => wire.answered >= r.count, signal)
    return {}
  },
  async 'until asked' (r, signal) {
    const wire = wireOf(connectionTo(r.peer))
    await wire.until(() => wire.answers >= r.count, signal)
    return {}
  },
  async 'until read' (r) {
    return wireOf(connectionTo(r.peer)).written
  },
  read: readHeld,
  hold,
  call,
  echo,
  reset,
  end
}

async function execute (request) {
  const command = commands[request.do]
  if (command === undefined) return { error: `unknown command ${request.do}` }
  const signal = AbortSignal.timeout(SECONDS * 1000)
  setMaxListeners(Infinity, signal)
  const late = new Promise((resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
  try {
    return await Promise.race([command(request, signal), late])
  } catch (error) {
    return { error: `${error.name}: ${error.message}` }
  }
}

const server = await serveRpc()
await host.handle(SPLICED, serveSpliced, STREAMS)
console.log(JSON.stringify({ id: host.peerId, addresses: host.getMultiaddrs() }))
let number = 0
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await execute({ n: ++number, ...JSON.parse(line) })))
}
server.forceShutdown()
await host.stop()
rmSync(directory, { recursive: true })
process.exit(0)
