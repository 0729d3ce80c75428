package tracegrpc

import (
	"context"
	"maps"
	"sync"

	otelprop "go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/meshtrace/meshtrace/middleware"
)

// response is the metadata of a response.
type response struct {
	stream sentMetadata // of a served call whose stream tells itself; nil: what follows

	mu              sync.Mutex // of a server's handler, which may use several goroutines
	header, trailer metadata.MD
}

// sentMetadata is what gRPC's own stream of a served call has beside its public
// interface. It is asked once the handler has returned.
type sentMetadata interface {
	Header() (metadata.MD, error)
	Trailer() metadata.MD
}

// capture returns what is to know the metadata that a handler sets for its response, and
// the handler's context; nil where nobody asks.
//
//go:noinline
func (s *server) capture(ctx context.Context, call *middleware.Call) (context.Context, *response) {
	if !call.Span().IsRecording() {
		return ctx, nil
	}
	r := new(response)
	stream := grpc.ServerTransportStreamFromContext(ctx)
	switch own := stream.(type) {
	case nil:
	case sentMetadata:
		r.stream = own
	default:
		// Of another server than gRPC's. gRPC's own stream is not wrapped, since
		// grpc.SetSendCompressor takes no other.
		ctx = grpc.NewContextWithServerTransportStream(ctx, &notedStream{stream, r})
	}
	return ctx, r
}

// notedStream notes what is set on a stream.
type notedStream struct {
	grpc.ServerTransportStream
	response *response
}

func (s *notedStream) SetHeader(md metadata.MD) error {
	err := s.ServerTransportStream.SetHeader(md)
	s.response.setHeader(md, err)
	return err
}

func (s *notedStream) SendHeader(md metadata.MD) error {
	err := s.ServerTransportStream.SendHeader(md)
	s.response.setHeader(md, err)
	return err
}

func (s *notedStream) SetTrailer(md metadata.MD) error {
	err := s.ServerTransportStream.SetTrailer(md)
	s.response.setTrailer(md, err)
	return err
}

// setHeader notes headers that were set, unless that failed.
func (r *response) setHeader(md metadata.MD, err error) {
	if r == nil || r.stream != nil || err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.header = metadata.Join(r.header, md)
}

// setTrailer notes trailers that were set, unless that failed.
func (r *response) setTrailer(md metadata.MD, err error) {
	if r == nil || r.stream != nil || err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trailer = metadata.Join(r.trailer, md)
}

// carrier returns both as one, with the header's values where both have a key; nil
// where r is.
func (r *response) carrier() otelprop.TextMapCarrier {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stream != nil {
		r.header, _ = r.stream.Header() // without an error for a served call
		r.trailer = r.stream.Trailer()
	}
	both := make(incoming, len(r.header)+len(r.trailer))
	maps.Copy(both, r.trailer)
	maps.Copy(both, r.header)
	return both
}
