// A go-libp2p peer (TCP, noise, yamux) that a test drives.
//
// Its arguments are the file with a FileDescriptorSet of mlnet's service, and, if others than go-yamux's own are wanted,
// the milliseconds between its keepalives. Its first line on standard output is its own peer id and addresses; then it
// answers each line on standard input with one line, both JSON, and ends with the input. Beside that it serves ping,
// identify, /mlnet/grpc/1.0.0 and /mlnet/redis/1.0.0 to whoever connects.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"
)

const deadline = 30 * time.Second

// request is one line of input; each command uses the fields that it needs.
type request struct {
	Do       string            `json:"do"`
	Address  string            `json:"address"`
	Peer     peer.ID           `json:"peer"`
	Count    int               `json:"count"`
	Preamble string            `json:"preamble"`
	Bytes    int               `json:"bytes"`
	Method   string            `json:"method"`
	Messages []json.RawMessage `json:"messages"`
}

type answer map[string]any

func main() {
	log.SetFlags(0)
	muxing := *yamux.DefaultTransport
	if len(os.Args) > 2 {
		milliseconds, err := strconv.Atoi(os.Args[2])
		if err != nil {
			log.Fatal(err)
		}
		muxing.KeepAliveInterval = time.Duration(milliseconds) * time.Millisecond
	}
	muxer := &watchedMuxer{Multiplexer: &muxing}
	h, err := newHost(muxer)
	if err != nil {
		log.Fatal(err)
	}
	rpc, err := serveRPC(h, os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	h.SetStreamHandler(splicedProtocol, func(s network.Stream) {
		serveSpliced(s, muxer.wire(s.Conn().RemotePeer()))
	})

	output := json.NewEncoder(os.Stdout)
	addresses, err := peer.AddrInfoToP2pAddrs(host.InfoFromHost(h))
	if err != nil {
		log.Fatal(err)
	}
	output.Encode(answer{"id": h.ID(), "addresses": addresses})
	for input := json.NewDecoder(os.Stdin); ; {
		var r request
		if err := input.Decode(&r); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			log.Fatal(err)
		}
		result, err := execute(h, muxer.wire(r.Peer), rpc, r)
		if err != nil {
			result = answer{"error": err.Error()}
		}
		output.Encode(result)
	}
	h.Close()
}

// newHost assembles what libp2p.New would, without the transports that are not used here and take minutes to compile.
func newHost(muxer network.Multiplexer) (*basichost.BasicHost, error) {
	key, _, err := crypto.GenerateEd25519Key(nil)
	if err != nil {
		return nil, err
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, err
	}
	peers, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(peers.AddPrivKey(id, key), peers.AddPubKey(id, key.GetPublic())); err != nil {
		return nil, err
	}
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: muxer}}
	security, err := noise.New(noise.ID, key, muxers)
	if err != nil {
		return nil, err
	}
	upgrade, err := upgrader.New([]sec.SecureTransport{security}, muxers, nil, &network.NullResourceManager{}, nil)
	if err != nil {
		return nil, err
	}
	bus := eventbus.NewBus()
	net, err := swarm.NewSwarm(id, peers, bus, swarm.WithResourceManager(&network.NullResourceManager{}))
	if err != nil {
		return nil, err
	}
	transport, err := tcp.NewTCPTransport(upgrade, &network.NullResourceManager{}, nil)
	if err != nil {
		return nil, err
	}
	if err := net.AddTransport(transport); err != nil {
		return nil, err
	}
	if err := net.Listen(multiaddr.StringCast("/ip4/127.0.0.1/tcp/0")); err != nil {
		return nil, err
	}
	h, err := basichost.NewHost(net, &basichost.HostOpts{EventBus: bus, EnablePing: true, UserAgent: "go-libp2p"})
	if err != nil {
		return nil, err
	}
	h.Start()
	return h, nil
}

func execute(h *basichost.BasicHost, w *wire, rpc *rpcServer, r request) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	switch r.Do {
	case "dial":
		info, err := peer.AddrInfoFromString(r.Address)
		if err != nil {
			return nil, err
		}
		return answer{}, h.Connect(ctx, *info)
	case "ping":
		return pingPeer(ctx, h, r)
	case "identify":
		return identifyPeer(ctx, h, r)
	case "call":
		return rpc.call(ctx, h, r)
	case "received":
		return answer{"received": rpc.texts()}, nil
	case "echo":
		return echo(ctx, h, r)
	case "reset":
		return reset(ctx, h, r)
	case "end":
		return waitForEnd(ctx, h, r)
	case "hold":
		return hold(ctx, h, w, r)
	case "until stalled":
		return w.untilStalled(ctx)
	case "until read":
		return untilRead(ctx, w)
	case "read":
		return readHeld(ctx, w)
	case "until answered":
		return answer{}, w.until(ctx, func() bool { return w.answered >= r.Count })
	case "until asked":
		return answer{}, w.until(ctx, func() bool { return w.answers >= r.Count })
	case "hang up":
		return answer{}, h.Network().ClosePeer(r.Peer)
	case "until connected":
		return answer{}, untilConnected(ctx, h, r.Peer, true)
	case "until gone":
		return answer{}, untilConnected(ctx, h, r.Peer, false)
	}
	return nil, fmt.Errorf("unknown command %q", r.Do)
}

func pingPeer(ctx context.Context, h host.Host, r request) (answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var times []int64
	for result := range ping.Ping(ctx, h, r.Peer) {
		if result.Error != nil {
			return nil, result.Error
		}
		if times = append(times, result.RTT.Microseconds()); len(times) == r.Count {
			break
		}
	}
	return answer{"microseconds": times}, ctx.Err()
}

// identifyPeer tells what the identify exchange of the connection found.
func identifyPeer(ctx context.Context, h *basichost.BasicHost, r request) (answer, error) {
	connections := h.Network().ConnsToPeer(r.Peer)
	if len(connections) == 0 {
		return nil, errors.New("not connected")
	}
	select {
	case <-h.IDService().IdentifyWait(connections[0]):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	protocols, err := h.Peerstore().GetProtocols(r.Peer)
	if err != nil {
		return nil, err
	}
	agent, err := h.Peerstore().Get(r.Peer, "AgentVersion")
	if err != nil {
		return nil, err
	}
	return answer{"agent": agent, "protocols": protocols, "addresses": h.Peerstore().Addrs(r.Peer)}, nil
}

// untilConnected waits until a peer is connected, or is not.
func untilConnected(ctx context.Context, h host.Host, id peer.ID, wanted bool) error {
	changes, err := h.EventBus().Subscribe(new(event.EvtPeerConnectednessChanged))
	if err != nil {
		return err
	}
	defer changes.Close()
	for (h.Network().Connectedness(id) == network.Connected) != wanted {
		select {
		case <-changes.Out():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
