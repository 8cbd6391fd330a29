package main

import (
	"context"
	"net"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/gostream"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	protocol    = "/mlnet/grpc/1.0.0"
	dialSeconds = 10 * time.Second
)

func newClient(target string, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	options = append(options,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(2*messageBytes), grpc.WaitForReady(true),
		),
	)
	return grpc.NewClient(target, options...)
}

// direct is plain gRPC over TCP.
type direct struct{}

func (direct) Serve(server *grpc.Server) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() { _ = server.Serve(listener) }()
	return listener.Addr().String(), nil
}

func (direct) Prepare() error { return nil }

func (direct) Dial(address string) (*grpc.ClientConn, func(), error) {
	conn, err := newClient("passthrough:///" + address)
	if err != nil {
		return nil, nil, err
	}
	return conn, func() { _ = conn.Close() }, nil
}

func (d direct) Idle(address string, count int) error {
	for range count {
		conn, _, err := d.Dial(address)
		if err != nil {
			return err
		}
		if err := call(conn, nil); err != nil {
			return err
		}
	}
	return nil
}

// overLibp2p is gRPC over streams of go-libp2p, with TCP, noise and yamux as mlnet has them.
type overLibp2p struct{ next host.Host }

func newHost(options ...libp2p.Option) (host.Host, error) {
	return libp2p.New(append(options,
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
	)...)
}

func (*overLibp2p) Serve(server *grpc.Server) (string, error) {
	own, err := newHost(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	if err != nil {
		return "", err
	}
	listener, err := gostream.Listen(own, protocol)
	if err != nil {
		return "", err
	}
	go func() { _ = server.Serve(listener) }()
	addresses, err := peer.AddrInfoToP2pAddrs(host.InfoFromHost(own))
	if err != nil {
		return "", err
	}
	return addresses[0].String(), nil
}

func connect(own host.Host, address string) (peer.ID, error) {
	info, err := peer.AddrInfoFromString(address)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialSeconds)
	defer cancel()
	return info.ID, own.Connect(ctx, *info)
}

func (w *overLibp2p) Prepare() (err error) {
	w.next, err = newHost(libp2p.NoListenAddrs)
	return err
}

func (w *overLibp2p) Dial(address string) (*grpc.ClientConn, func(), error) {
	own := w.next
	remote, err := connect(own, address)
	if err != nil {
		return nil, nil, err
	}
	conn, err := newClient("passthrough:///peer", grpc.WithContextDialer(
		func(ctx context.Context, _ string) (net.Conn, error) {
			return gostream.Dial(ctx, own, remote, protocol)
		},
	))
	if err != nil {
		return nil, nil, err
	}
	return conn, func() {
		_ = conn.Close()
		_ = own.Close()
	}, nil
}

func (*overLibp2p) Idle(address string, count int) error {
	for range count {
		own, err := newHost(libp2p.NoListenAddrs)
		if err != nil {
			return err
		}
		if _, err := connect(own, address); err != nil {
			return err
		}
	}
	return nil
}
