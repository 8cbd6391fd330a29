// The Go side of tests/benchmarks/tunnel.py: a gRPC server or client, directly over TCP or over go-libp2p.
//
// Usage: benchmarks server|client direct|libp2p. It speaks JSON lines on standard input and output, the same as
// tunnel_worker.py, and ends when its input does.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
)

const (
	messageBytes = 1 << 20
	unary        = "/mlnet.Benchmark/Unary"
	stream       = "/mlnet.Benchmark/Stream"
)

// Request is one line of input.
type Request struct {
	Do       string  `json:"do"`
	Address  string  `json:"address"`
	Calls    int     `json:"calls"`
	Flight   int     `json:"flight"`
	Seconds  float64 `json:"seconds"`
	Messages int     `json:"messages"`
	Times    int     `json:"times"`
	Count    int     `json:"count"`
}

// Answer is one line of output, by name of the figure.
type Answer map[string]any

// A Way carries gRPC: directly, or over libp2p.
type Way interface {
	Serve(server *grpc.Server) (address string, err error)
	// Prepare does what comes before the next Dial and is no part of it.
	Prepare() error
	// Dial makes a new connection; the returned function ends it.
	Dial(address string) (*grpc.ClientConn, func(), error)
	// Idle makes connections, each of an identity of its own, that last as long as the process.
	Idle(address string, count int) error
}

// rawCodec passes bytes through, so that no serialisation is measured.
type rawCodec struct{}

func (rawCodec) Marshal(value any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*value.(*[]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, value any) error {
	*value.(*[]byte) = data.Materialize()
	return nil
}

func (rawCodec) Name() string { return "proto" }

func newServer() *grpc.Server {
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}))
	message := make([]byte, messageBytes)
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "mlnet.Benchmark",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{
			MethodName: "Unary",
			Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				var data []byte
				err := decode(&data)
				return &data, err
			},
		}},
		Streams: []grpc.StreamDesc{{
			StreamName:    "Stream",
			ServerStreams: true,
			Handler: func(_ any, call grpc.ServerStream) error {
				var data []byte
				if err := call.RecvMsg(&data); err != nil {
					return err
				}
				count, err := strconv.Atoi(string(data))
				for ; err == nil && count > 0; count-- {
					err = call.SendMsg(&message)
				}
				return err
			},
		}},
	}, struct{}{})
	return server
}

// Client measures over one connection.
type Client struct {
	way  Way
	conn *grpc.ClientConn
}

func call(conn *grpc.ClientConn, data []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var answer []byte
	return conn.Invoke(ctx, unary, &data, &answer)
}

func (c *Client) latency(request Request) (Answer, error) {
	data := make([]byte, 300)
	times := make([]time.Duration, request.Calls)
	for i := range times {
		start := time.Now()
		if err := call(c.conn, data); err != nil {
			return nil, err
		}
		times[i] = time.Since(start)
	}
	slices.Sort(times)
	return Answer{
		"p50": times[len(times)/2].Seconds() * 1e6,
		"p99": times[len(times)*99/100].Seconds() * 1e6,
	}, nil
}

func (c *Client) rate(request Request) (Answer, error) {
	var done atomic.Int64
	var failed atomic.Value
	var group sync.WaitGroup
	start := time.Now()
	end := start.Add(time.Duration(request.Seconds * float64(time.Second)))
	for range request.Flight {
		group.Go(func() {
			data := make([]byte, 300)
			for time.Now().Before(end) {
				if err := call(c.conn, data); err != nil {
					failed.Store(err)
					return
				}
				done.Add(1)
			}
		})
	}
	group.Wait()
	if err, ok := failed.Load().(error); ok {
		return nil, err
	}
	return Answer{"rate": float64(done.Load()) / time.Since(start).Seconds()}, nil
}

func (c *Client) bulk(request Request) (Answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	start := time.Now()
	data := []byte(strconv.Itoa(request.Messages))
	call, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, stream)
	if err == nil {
		err = call.SendMsg(&data)
	}
	if err == nil {
		err = call.CloseSend()
	}
	total := 0
	for range request.Messages {
		if err != nil {
			return nil, err
		}
		var message []byte
		err = call.RecvMsg(&message)
		total += len(message)
	}
	if err == nil && total != request.Messages*messageBytes {
		err = fmt.Errorf("%d bytes came", total)
	}
	return Answer{"seconds": time.Since(start).Seconds()}, err
}

func (c *Client) setup(request Request) (Answer, error) {
	times := make([]float64, request.Times)
	for i := range times {
		if err := c.way.Prepare(); err != nil {
			return nil, err
		}
		start := time.Now()
		conn, end, err := c.way.Dial(request.Address)
		if err != nil {
			return nil, err
		}
		err = call(conn, make([]byte, 300))
		times[i] = time.Since(start).Seconds()
		end()
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(times)
	return Answer{"seconds": times[len(times)/2]}, nil
}

func (c *Client) do(request Request) (Answer, error) {
	var err error
	switch request.Do {
	case "connect":
		if err = c.way.Prepare(); err == nil {
			c.conn, _, err = c.way.Dial(request.Address)
		}
		for i := 0; err == nil && i < request.Calls; i++ {
			err = call(c.conn, make([]byte, 300))
		}
		return Answer{"kind": ""}, err
	case "latency":
		return c.latency(request)
	case "rate":
		return c.rate(request)
	case "bulk":
		return c.bulk(request)
	case "setup":
		return c.setup(request)
	case "hold":
		return Answer{}, c.way.Idle(request.Address, request.Count)
	case "cpu":
		return cpu()
	case "memory":
		return memory()
	}
	return nil, fmt.Errorf("%q is not known here", request.Do)
}

// cpu is the processor time of this process so far, in seconds.
func cpu() (Answer, error) {
	var used syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return Answer{"cpu": seconds(used.Utime) + seconds(used.Stime)}, err
}

// memory is the resident set of this process, in bytes.
func memory() (Answer, error) {
	debug.FreeOSMemory()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return nil, err
	}
	pages, err := strconv.Atoi(strings.Fields(string(data))[1])
	return Answer{"rss": pages * os.Getpagesize()}, err
}

func main() {
	var way Way = direct{}
	if os.Args[2] == "libp2p" {
		way = &overLibp2p{}
	}
	output := json.NewEncoder(os.Stdout)
	client := &Client{way: way}
	if os.Args[1] == "server" {
		address, err := way.Serve(newServer())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_ = output.Encode(Answer{"address": address})
	} else {
		_ = output.Encode(Answer{})
	}
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		var request Request
		err := json.Unmarshal(input.Bytes(), &request)
		var answer Answer
		if err == nil {
			answer, err = client.do(request)
		}
		if err != nil {
			answer = Answer{"error": err.Error()}
		}
		_ = output.Encode(answer)
	}
}
