package tracegrpc

import (
	"context"
	"io"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/meshtrace/meshtrace/internal/semconv"
	"github.com/meshtrace/meshtrace/middleware"
)

// client traces the calls that a connection makes.
type client struct {
	tracing *middleware.Tracing
	methods cache[route]
}

// route is where a call goes.
type route struct{ target, method string }

func newClient(t *middleware.Tracing) *client { return &client{tracing: need(t)} }

func (c *client) unary(ctx context.Context, full string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx, call, _ := c.start(ctx, full, cc)
	var answer *response
	if c.tracing.CapturesResponses() && call.Span().IsRecording() {
		answer = new(response)
		opts = append(opts[:len(opts):len(opts)], grpc.Header(&answer.header), grpc.Trailer(&answer.trailer))
	}
	returned := false
	defer func() {
		if !returned {
			endPanicking(call, recover())
		}
	}()
	err := invoker(ctx, full, req, reply, cc, opts...)
	returned = true
	o := outcome(err)
	o.Response = answer.carrier()
	call.End(o)
	return err
}

func (c *client) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, full string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, call, observed := c.start(ctx, full, cc)
	if !observed {
		return streamer(ctx, desc, cc, full, opts...)
	}
	s := &clientStream{call: call, answers: desc.ServerStreams}
	returned := false
	defer func() {
		if !returned {
			s.panicked(recover())
		}
	}()
	// gRPC tells the end of every stream here, also of those that end by their context
	// or are never read.
	opts = append(opts[:len(opts):len(opts)], grpc.OnFinish(s.finished))
	if c.tracing.CapturesResponses() && call.Span().IsRecording() {
		s.answer = new(response)
		opts = append(opts, grpc.Header(&s.answer.header), grpc.Trailer(&s.answer.trailer))
	}
	stream, err := streamer(ctx, desc, cc, full, opts...)
	returned = true
	if err != nil {
		s.finish(err, nil)
		return nil, err
	}
	s.ClientStream = stream
	return s, nil
}

// start starts the span of a call and puts its headers into the outgoing metadata of
// the context it returns. observed tells whether anything is kept of the call.
func (c *client) start(ctx context.Context, full string, cc *grpc.ClientConn) (_ context.Context, _ *middleware.Call, observed bool) {
	var target string
	if cc != nil {
		target = cc.Target()
	}
	m := c.methods.get(route{target, full}, func(r route) *method {
		return newMethod(r.method, targetAttributes(r.target)...)
	})
	out := middleware.Outgoing{Name: m.name, Method: full, Attributes: m.attrs}
	var call *middleware.Call
	if md, ok := metadata.FromOutgoingContext(ctx); ok {
		h := headers(md)
		out.Carrier = h
		ctx, call = c.tracing.StartClient(ctx, out)
		ctx = replace(ctx, md, h)
	} else {
		carrier := new(outgoing)
		out.Carrier = carrier
		ctx, call = c.tracing.StartClient(ctx, out)
		ctx = carrier.into(ctx)
	}
	return ctx, call, call.Observed()
}

// clientStream ends its call once, whoever says first that it is over.
type clientStream struct {
	grpc.ClientStream
	call           *middleware.Call
	answers        bool      // the server may send more than one message
	answer         *response // gRPC fills it before it calls finished; nil: nobody asks
	sent, received atomic.Int64
	over           atomic.Bool
}

func (s *clientStream) SendMsg(m any) error {
	err := s.ClientStream.SendMsg(m)
	switch err {
	case nil:
		s.sent.Add(1)
	case io.EOF: // the stream is over; RecvMsg knows why
	default:
		s.finish(err, nil)
	}
	return err
}

func (s *clientStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	switch {
	case err == nil:
		s.received.Add(1)
		if !s.answers {
			s.finish(nil, nil)
		}
	default:
		s.finish(err, nil)
	}
	return err
}

func (s *clientStream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	if err != nil {
		s.finish(err, nil)
	}
	return md, err
}

// finished is called by gRPC when the stream is over, on any goroutine.
func (s *clientStream) finished(err error) { s.finish(err, s.answer) }

// finish ends the call with the status that err carries; io.EOF is the end of a
// stream that went well.
func (s *clientStream) finish(err error, answer *response) {
	if err == io.EOF {
		err = nil
	}
	if !s.over.CompareAndSwap(false, true) {
		return
	}
	received := s.received.Load()
	if err == nil && !s.answers {
		received = 1 // gRPC finishes before RecvMsg returns with it
	}
	s.call.SetAttributes(semconv.MessagesSent.Int64(s.sent.Load()), semconv.MessagesReceived.Int64(received))
	o := outcome(err)
	o.Response = answer.carrier()
	s.call.End(o)
}

func (s *clientStream) panicked(v any) {
	if s.over.CompareAndSwap(false, true) {
		endPanicking(s.call, v)
	} else if v != nil {
		panic(v)
	}
}
