package exporter

import (
	"context"
	"errors"
	"sync"
)

// askingSender finds out which protocol its endpoint speaks, then is that protocol's
// sender.
type askingSender struct {
	hint Protocol // by port and path; Auto: none
	grpc grpcSender
	http httpSender

	mu     sync.Mutex
	chosen Sender
	sure   bool // it took a request
}

func (s *askingSender) Send(ctx context.Context, request []byte, spans int) (int, error) {
	to, err := s.choose(ctx)
	if err != nil {
		return 0, err
	}
	rejected, failed := to.Send(ctx, request, spans)
	var se *SendError
	if errors.As(failed, &se) && se.kind == kindProtocol && s.change(to) {
		// Servers of HTTP that have HTTP/2 look like gRPC's until they are asked for it.
		return s.Send(ctx, request, spans)
	}
	if failed == nil {
		s.mu.Lock()
		s.sure = true
		s.mu.Unlock()
	}
	return rejected, failed
}

// change chooses the other protocol than from's and reports whether that is to be
// tried: once, and not where from worked before.
func (s *askingSender) change(from Sender) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.chosen != from { // another request changed it
		return true
	}
	if s.sure {
		return false
	}
	if s.chosen = &s.grpc; from == Sender(&s.grpc) {
		s.chosen = &s.http
	}
	s.sure = true
	return true
}

func (s *askingSender) probe(ctx context.Context) *SendError {
	_, err := s.choose(ctx)
	return err
}

// choose asks once: by the first bytes of a plaintext answer, by what a TLS server
// prefers, and, where that is HTTP/2, which both protocols have, by the hint, or by a
// gRPC request without spans.
func (s *askingSender) choose(ctx context.Context) (Sender, *SendError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.chosen != nil {
		return s.chosen, nil
	}
	ctx, cancel := s.http.withTimeout(ctx)
	defer cancel()
	first, link := HTTPProtobuf, s.http.link
	if s.hint == GRPC {
		first, link = GRPC, s.grpc.link
	}
	speaks := spokenNothing
	if link.mayLook() {
		var err error
		if speaks, err = link.look(ctx, first); err != nil {
			return nil, link.unreachable(ctx, err, first)
		}
	}
	switch {
	case speaks == spokenTLS:
		return nil, link.expectsTLS()
	case speaks == spokenHTTP1:
		s.chosen = &s.http
	case speaks == spokenHTTP2, s.hint == GRPC:
		s.chosen = &s.grpc
	case s.hint == HTTPProtobuf:
		s.chosen = &s.http
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
