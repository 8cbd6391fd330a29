package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"math/rand/v2"
	"sync"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
)

const splicedProtocol = "/mlnet/redis/1.0.0"

// serveSpliced reads the preamble and does what it says.
func serveSpliced(s network.Stream, w *wire) {
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
	case "hold": // until the test has it read
		w.held <- s
		return
	default:
		err = errors.New("no such preamble")
	}
	if err != nil {
		s.Reset()
		return
	}
	s.Close()
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

// hold opens a stream, sends random bytes and the end at whatever pace the other side has, and does not wait for that.
func hold(ctx context.Context, h host.Host, w *wire, r request) (answer, error) {
	s, err := openSpliced(ctx, h, r)
	if err != nil {
		return nil, err
	}
	go func() {
		defer s.Close()
		sent := sha256.New()
		source := io.LimitReader(rand.NewChaCha8([32]byte{}), int64(r.Bytes))
		count, err := io.Copy(io.MultiWriter(s, sent), source)
		if err != nil {
			w.written <- answer{"error": err.Error()}
			return
		}
		w.written <- digest(count, sent)
	}()
	return answer{}, nil
}

// untilRead waits until all bytes of a stream of hold have gone.
func untilRead(ctx context.Context, w *wire) (answer, error) {
	select {
	case result := <-w.written:
		return result, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// readHeld reads a stream that was opened with the preamble "hold", to its end.
func readHeld(ctx context.Context, w *wire) (answer, error) {
	select {
	case s := <-w.held:
		defer s.Close()
		limit, _ := ctx.Deadline()
		s.SetDeadline(limit)
		received := sha256.New()
		count, err := io.Copy(received, s)
		return digest(count, received), err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func digest(count int64, hash hash.Hash) answer {
	return answer{"bytes": count, "sha256": hex.EncodeToString(hash.Sum(nil))}
}
