package main

import (
	"context"
	"encoding/binary"
	"net"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
)

// The yamux protocol, as far as it is watched here.
const (
	frameData, frameWindow, framePing  = 0, 1, 2
	flagSYN, flagACK, flagFIN, flagRST = 1, 2, 4, 8
	yamuxHeaderBytes, yamuxFirstWindow = 12, 256 * 1024
)

// header is what a yamux frame begins with.
type header struct {
	kind, flags    uint16
	stream, length uint32
}

// wire watches the frames of a connection, of which go-yamux does not tell.
type wire struct {
	mutex    sync.Mutex
	changed  chan struct{} // closed at the next frame
	in, out  splitter
	lastPing uint32
	answered int // pings of ours that the other side has answered as it must
	answers  int // pings of the other side that we have answered
	receives map[uint32]*flow
	sends    map[uint32]*flow

	held    chan network.Stream // which nobody reads
	written chan answer         // what became of a stream of hold
}

// flow is one direction of a stream: the bytes that it may carry so far, and those that it has carried.
type flow struct{ granted, carried int }

func newWire() *wire {
	return &wire{
		changed:  make(chan struct{}),
		receives: map[uint32]*flow{},
		sends:    map[uint32]*flow{},
		held:     make(chan network.Stream, 1),
		written:  make(chan answer, 1),
	}
}

func (w *wire) received(data []byte) {
	w.take(&w.in, data, w.sends, w.receives, func(h header) {
		if h.flags&flagACK != 0 && h.length == w.lastPing {
			w.answered++
		}
	})
}

func (w *wire) sent(data []byte) {
	w.take(&w.out, data, w.receives, w.sends, func(h header) {
		if h.flags&flagACK != 0 {
			w.answers++
		} else {
			w.lastPing = h.length
		}
	})
}

// take notes what frames of one direction do to the flows that go the other way and their own.
func (w *wire) take(s *splitter, data []byte, against, along map[uint32]*flow, onPing func(header)) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	s.split(data, func(h header) {
		switch {
		case h.kind == framePing:
			onPing(h)
		case h.kind > framePing:
		case h.flags&flagRST != 0:
			delete(against, h.stream)
			delete(along, h.stream)
		default:
			if h.flags&flagSYN != 0 {
				against[h.stream] = &flow{granted: yamuxFirstWindow}
				along[h.stream] = &flow{granted: yamuxFirstWindow}
			}
			if f := against[h.stream]; f != nil && h.kind == frameWindow {
				f.granted += int(h.length)
			}
			if f := along[h.stream]; f != nil && h.kind == frameData {
				f.carried += int(h.length)
			}
			if h.flags&flagFIN != 0 {
				delete(along, h.stream)
			}
		}
	})
	close(w.changed)
	w.changed = make(chan struct{})
}

// until waits for a condition, which is asked under the mutex.
func (w *wire) until(ctx context.Context, condition func() bool) error {
	for {
		w.mutex.Lock()
		met, changed := condition(), w.changed
		w.mutex.Unlock()
		if met {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// untilStalled waits until a stream each way has used up its window, and tells what these carried.
func (w *wire) untilStalled(ctx context.Context) (answer, error) {
	var receives, sends *flow
	err := w.until(ctx, func() bool {
		receives, sends = stalled(w.receives), stalled(w.sends)
		return receives != nil && sends != nil
	})
	if err != nil {
		return nil, err
	}
	return answer{"received": receives.carried, "sent": sends.carried}, nil
}

func stalled(flows map[uint32]*flow) *flow {
	for _, f := range flows {
		if f.carried == f.granted {
			copied := *f
			return &copied
		}
	}
	return nil
}

// splitter finds the headers in the frames of one direction, however they are cut.
type splitter struct {
	header  [yamuxHeaderBytes]byte
	filled  int
	payload uint32
}

func (s *splitter) split(data []byte, see func(header)) {
	for len(data) > 0 {
		if s.payload > 0 {
			n := min(len(data), int(s.payload))
			s.payload -= uint32(n)
			data = data[n:]
			continue
		}
		n := copy(s.header[s.filled:], data)
		data = data[n:]
		if s.filled += n; s.filled < yamuxHeaderBytes {
			return
		}
		s.filled = 0
		h := header{
			kind:   uint16(s.header[1]),
			flags:  binary.BigEndian.Uint16(s.header[2:]),
			stream: binary.BigEndian.Uint32(s.header[4:]),
			length: binary.BigEndian.Uint32(s.header[8:]),
		}
		see(h)
		if h.kind == frameData {
			s.payload = h.length
		}
	}
}

// watchedMuxer lets a muxer's connections be watched.
type watchedMuxer struct {
	network.Multiplexer
	wires sync.Map // the last connection with each peer
}

func (m *watchedMuxer) NewConn(c net.Conn, server bool, scope network.PeerScope) (network.MuxedConn, error) {
	w := newWire()
	m.wires.Store(c.(sec.SecureConn).RemotePeer(), w)
	return m.Multiplexer.NewConn(&watchedConn{c, w}, server, scope)
}

// wire returns what is known of a peer that is or was connected.
func (m *watchedMuxer) wire(id peer.ID) *wire {
	if w, ok := m.wires.Load(id); ok {
		return w.(*wire)
	}
	return newWire()
}

type watchedConn struct {
	net.Conn
	wire *wire
}

func (c *watchedConn) Read(data []byte) (int, error) {
	n, err := c.Conn.Read(data)
	c.wire.received(data[:n])
	return n, err
}

func (c *watchedConn) Write(data []byte) (int, error) {
	c.wire.sent(data)
	return c.Conn.Write(data)
}
