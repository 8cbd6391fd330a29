package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"sync"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
)

const splicedProtocol = "/mlnet/redis/1.0.0"

// serveSpliced reads the preamble and does what it says.
func serveSpliced(s network.Stream) {
	defer s.Close()
	var size uint16
	if binary.Read(s, binary.BigEndian, &size) != nil {
		s.Reset()
		return
	}
	preamble := make([]byte, size)
	if _, err := io.ReadFull(s, preamble); err != nil {
		s.Reset()
		return
	}
	var err error
	switch string(preamble) {
	case "echo":
		_, err = io.Copy(s, s)
	case "late": // an answer after the question's end
		var question []byte
		if question, err = io.ReadAll(s); err == nil {
			_, err = s.Write(question)
		}
	case "reset":
		if _, err = s.Read(make([]byte, 1)); err == nil {
			s.Reset()
		}
	default:
		err = errors.New("no such preamble")
	}
	if err != nil {
		s.Reset()
	}
}

func openSpliced(ctx context.Context, h host.Host, r request) (network.Stream, error) {
	s, err := h.NewStream(ctx, r.Peer, splicedProtocol)
	if err != nil {
		return nil, err
	}
	limit, _ := ctx.Deadline()
	s.SetDeadline(limit)
	preamble := append(binary.BigEndian.AppendUint16(nil, uint16(len(r.Preamble))), r.Preamble...)
	_, err = s.Write(preamble)
	return s, err
}

// echo sends random bytes over Count streams at once, half-closes them, and compares what comes back until their ends.
// Several streams wait for one another after their first byte, so that all of them are open at that time.
func echo(ctx context.Context, h host.Host, r request) (answer, error) {
	var together, all sync.WaitGroup
	together.Add(r.Count)
	failures := make(chan error, r.Count)
	for seed := range r.Count {
		all.Go(func() {
			if err := echoOne(ctx, h, r, uint64(seed), &together); err != nil {
				failures <- fmt.Errorf("stream %d: %w", seed, err)
			}
		})
	}
	all.Wait()
	close(failures)
	return answer{"bytes": r.Count * r.Bytes}, <-failures
}

func echoOne(ctx context.Context, h host.Host, r request, seed uint64, together *sync.WaitGroup) error {
	s, err := openSpliced(ctx, h, r)
	if err == nil && r.Count > 1 {
		err = exchange(s, []byte{byte(seed)})
	}
	together.Done()
	if err != nil {
		return err
	}
	defer s.Reset()
	together.Wait()

	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	sent, received := sha256.New(), sha256.New()
	writing := make(chan error, 1)
	go func() {
		source := io.LimitReader(rand.NewChaCha8(key), int64(r.Bytes))
		_, err := io.Copy(io.MultiWriter(s, sent), source)
		writing <- errors.Join(err, s.CloseWrite())
	}()
	count, err := io.Copy(received, s)
	if err := errors.Join(err, <-writing); err != nil {
		return err
	}
	if count != int64(r.Bytes) || !bytes.Equal(sent.Sum(nil), received.Sum(nil)) {
		return fmt.Errorf("%d bytes came back, and not those that were sent", count)
	}
	return nil
}

// exchange sends a few bytes and waits for them to come back.
func exchange(s network.Stream, sent []byte) error {
	if _, err := s.Write(sent); err != nil {
		return err
	}
	received := make([]byte, len(sent))
	if _, err := io.ReadFull(s, received); err != nil {
		return err
	}
	if !bytes.Equal(sent, received) {
		return errors.New("other bytes came back")
	}
	return nil
}

// reset opens a stream to an echo, sees that it works, and resets it, with the error code that has most bits.
func reset(ctx context.Context, h host.Host, r request) (answer, error) {
	s, err := openSpliced(ctx, h, r)
	if err == nil {
		err = exchange(s, []byte("echo"))
	}
	if err != nil {
		return nil, err
	}
	return answer{}, s.ResetWithError(math.MaxUint32)
}

// waitForEnd opens a stream, sends zeros as long as it can, and tells how the other side ends it.
func waitForEnd(ctx context.Context, h host.Host, r request) (answer, error) {
	s, err := openSpliced(ctx, h, r)
	if err != nil {
		return nil, err
	}
	defer s.Reset()
	go s.Write(make([]byte, r.Bytes))
	_, err = io.Copy(io.Discard, s)
	if err == nil {
		return answer{"end": "end of file"}, nil
	}
	if errors.Is(err, network.ErrReset) {
		return answer{"end": "reset"}, nil
	}
	return nil, err
}
