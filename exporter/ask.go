package exporter

import (
	"context"
	"errors"
	"sync"
)

// askingSender finds out which protocol its endpoint speaks, then is that protocol's
// sender.
type askingSender struct {
	grpc grpcSender
	http httpSender

	mu     sync.Mutex
	chosen Sender
}

func (s *askingSender) Send(ctx context.Context, request []byte, spans int) (int, error) {
	to, err := s.choose(ctx)
	if err != nil {
		return 0, err
	}
	return to.Send(ctx, request, spans)
}

func (s *askingSender) probe(ctx context.Context) *SendError {
	_, err := s.choose(ctx)
	return err
}

// choose asks once: by the first bytes of a plaintext answer, by what a TLS server
// prefers, and, where that is HTTP/2, which both protocols have, by a gRPC request
// without spans.
func (s *askingSender) choose(ctx context.Context) (Sender, *SendError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.chosen != nil {
		return s.chosen, nil
	}
	ctx, cancel := s.http.withTimeout(ctx)
	defer cancel()
	speaks := spokenNothing
	if s.http.mayLook() {
		var err error
		if speaks, err = s.http.look(ctx, HTTPProtobuf); err != nil {
			return nil, s.http.unreachable(ctx, err, HTTPProtobuf)
		}
	}
	switch speaks {
	case spokenTLS:
		return nil, s.http.expectsTLS()
	case spokenHTTP1:
		s.chosen = &s.http
	case spokenHTTP2:
		s.chosen = &s.grpc
	default:
		_, err := s.grpc.Send(ctx, nil, 0)
		var se *SendError
		switch {
		case !errors.As(err, &se):
			s.chosen = &s.grpc
		case se.kind == kindProtocol:
			s.chosen = &s.http
		case se.Retry:
			return nil, se // nobody there who could tell
		case se.Status == 0: // a status of gRPC's own
			s.chosen = &s.grpc
		default:
			s.chosen = &s.http
		}
	}
	return s.chosen, nil
}

func (s *askingSender) Close() error {
	return errors.Join(s.grpc.Close(), s.http.Close())
}
