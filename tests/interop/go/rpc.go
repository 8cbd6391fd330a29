package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/p2p/net/gostream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

const rpcProtocol = "/mlnet/grpc/1.0.0"

// accepted is OUTCOME_ACCEPTED.
const accepted protoreflect.EnumNumber = 1

// rpcServer takes every envelope, and remembers its text.
type rpcServer struct {
	files    *protoregistry.Files
	mutex    sync.Mutex
	received []string
}

// serveRPC serves grpc-go on the streams of a host. The messages are those of a FileDescriptorSet.
func serveRPC(h host.Host, path string) (*rpcServer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(data, set); err != nil {
		return nil, err
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return nil, err
	}
	server := &rpcServer{files: files}
	listener, err := gostream.Listen(h, rpcProtocol)
	if err != nil {
		return nil, err
	}
	go grpc.NewServer(grpc.UnknownServiceHandler(server.handle)).Serve(listener)
	return server, nil
}

func (r *rpcServer) texts() []string {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return append([]string{}, r.received...)
}

func (r *rpcServer) remember(envelope protoreflect.Message) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.received = append(r.received, field(envelope, "yaml").String())
}

// method finds the descriptor of "/package.Service/Method".
func (r *rpcServer) method(name string) (protoreflect.MethodDescriptor, error) {
	full := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(name, "/"), "/", "."))
	descriptor, err := r.files.FindDescriptorByName(full)
	if err != nil {
		return nil, err
	}
	if method, ok := descriptor.(protoreflect.MethodDescriptor); ok {
		return method, nil
	}
	return nil, fmt.Errorf("%s is not a method", full)
}

// handle answers a call of any method.
func (r *rpcServer) handle(_ any, stream grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(stream)
	method, err := r.method(name)
	if err != nil {
		return status.Error(codes.Unimplemented, err.Error())
	}
	for count := uint64(0); ; {
		request, reply := dynamicpb.NewMessage(method.Input()), dynamicpb.NewMessage(method.Output())
		if err := stream.RecvMsg(request); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		switch method.Name() {
		case "Send":
			r.remember(field(request, "envelope").Message())
			set(reply, "accepted", protoreflect.ValueOfBool(true))
		case "Exchange":
			envelopes, sequences := field(request, "envelopes").List(), field(request, "sequences").List()
			acknowledgements := reply.Mutable(reply.Descriptor().Fields().ByName("acknowledgements")).List()
			for i := range envelopes.Len() {
				count++
				sequence := protoreflect.ValueOfUint64(count)
				if sequences.Len() > 0 {
					sequence = sequences.Get(i)
				}
				r.remember(envelopes.Get(i).Message())
				acknowledgement := acknowledgements.AppendMutable().Message()
				set(acknowledgement, "sequence", sequence)
				set(acknowledgement, "outcome", protoreflect.ValueOfEnum(accepted))
			}
			if envelopes.Len() == 0 {
				continue
			}
		default:
			return status.Error(codes.Unimplemented, name)
		}
		if err := stream.SendMsg(reply); err != nil || !method.IsStreamingServer() {
			return err
		}
	}
}

func field(message protoreflect.Message, name protoreflect.Name) protoreflect.Value {
	return message.Get(message.Descriptor().Fields().ByName(name))
}

func set(message protoreflect.Message, name protoreflect.Name, value protoreflect.Value) {
	message.Set(message.Descriptor().Fields().ByName(name), value)
}

// call sends all messages of a request over one grpc-go call to a peer, and returns the answers.
func (r *rpcServer) call(ctx context.Context, h host.Host, q request) (answer, error) {
	method, err := r.method(q.Method)
	if err != nil {
		return nil, err
	}
	connection, err := grpc.NewClient(
		"passthrough:///mlnet",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return gostream.Dial(ctx, h, q.Peer, rpcProtocol)
		}),
	)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	stream, err := connection.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, q.Method)
	if err != nil {
		return nil, err
	}
	for _, text := range q.Messages {
		message := dynamicpb.NewMessage(method.Input())
		if err := protojson.Unmarshal(text, message); err != nil {
			return nil, err
		}
		if err := stream.SendMsg(message); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	messages := []json.RawMessage{}
	for {
		message := dynamicpb.NewMessage(method.Output())
		if err := stream.RecvMsg(message); errors.Is(err, io.EOF) {
			return answer{"messages": messages}, nil
		} else if err != nil {
			return answer{"messages": messages, "code": status.Code(err), "details": status.Convert(err).Message()}, nil
		}
		text, err := protojson.Marshal(message)
		if err != nil {
			return nil, err
		}
		messages = append(messages, text)
	}
}
