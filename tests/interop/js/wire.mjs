// Watches the yamux frames of connections, of which js-libp2p does not tell.

const [DATA, WINDOW, PING] = [0, 1, 2]
const [SYN, ACK, FIN, RST] = [1, 2, 4, 8]
const FIRST_WINDOW = 256 * 1024
const wires = new WeakMap()

class Wire {
  // By stream and direction: the bytes that it may carry so far, and those that it has carried.
  #receives = new Map()
  #sends = new Map()
  #changed = Promise.withResolvers()
  #lastPing
  answered = 0 // pings of ours that the other side has answered as it must
  answers = 0 // pings of the other side that we have answered
  held = Promise.withResolvers() // a stream that nobody reads
  written // what becomes of a stream of hold

  received (header) {
    if (header.type !== PING) this.#note(header, this.#sends, this.#receives)
    else if (header.flag === ACK && header.length === this.#lastPing) this.answered++
    this.#notify()
  }

  sent (header) {
    if (header.type !== PING) this.#note(header, this.#receives, this.#sends)
    else if (header.flag === ACK) this.answers++
    else this.#lastPing = header.length
    this.#notify()
  }

  #note ({ type, flag, streamID, length }, against, along) {
    if (type > PING) return
    if (flag & RST) {
      against.delete(streamID)
      along.delete(streamID)
      return
    }
    if (flag & SYN) {
      against.set(streamID, { granted: FIRST_WINDOW, carried: 0 })
      along.set(streamID, { granted: FIRST_WINDOW, carried: 0 })
    }
    if (type === WINDOW && against.has(streamID)) against.get(streamID).granted += length
    if (type === DATA && along.has(streamID)) along.get(streamID).carried += length
    if (flag & FIN) along.delete(streamID)
  }

  #notify () {
    this.#changed.resolve()
    this.#changed = Promise.withResolvers()
  }

  async until (condition, signal) {
    while (!condition()) {
      signal.throwIfAborted()
      await this.#changed.promise
    }
  }

  // Waits until a stream each way has used up its window, and tells what these carried.
  async untilStalled (signal) {
    const stalled = flows => [...flows.values()].find(flow => flow.carried === flow.granted)
    await this.until(() => stalled(this.#receives) && stalled(this.#sends), signal)
    return { received: stalled(this.#receives).carried, sent: stalled(this.#sends).carried }
  }
}

// A factory of muxers whose connections are watched.
export function watched (makeFactory) {
  return components => {
    const factory = makeFactory(components)
    const create = factory.createStreamMuxer.bind(factory)
    factory.createStreamMuxer = connection => {
      const muxer = create(connection)
      const wire = new Wire()
      wires.set(muxer, wire)
      const { handleFrame, sendFrame } = muxer
      muxer.handleFrame = frame => {
        wire.received(frame.header)
        handleFrame.call(muxer, frame)
      }
      muxer.sendFrame = (header, data) => {
        wire.sent(header)
        return sendFrame.call(muxer, header, data)
      }
      return muxer
    }
    return factory
  }
}

// What is known of a connection.
export function wireOf (connection) {
  return wires.get(connection.muxer)
}
