package tracegrpc

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/meshtrace/meshtrace/internal/semconv"
	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/span"
)

// server traces the calls that a server answers.
type server struct {
	tracing *middleware.Tracing
	methods cache[string] // by full method; registered ones alone
}

func newServer(t *middleware.Tracing) *server { return &server{tracing: need(t)} }

func (s *server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	ctx, call := s.start(ctx, info.FullMethod, s.method(info.FullMethod))
	var answer *response
	if s.tracing.CapturesResponses() {
		ctx, answer = s.capture(ctx, call)
	}
	returned := false
	defer func() {
		if !returned {
			endPanicking(call, recover())
		}
	}()
	resp, err = handler(ctx, req)
	returned = true
	end(call, err, answer)
	return resp, err
}

// end ends a call. It is apart, as describe is, because each call has a goroutine and
// its stack, and the handler stands on what is kept here.
//
//go:noinline
func end(call *middleware.Call, err error, answer *response) {
	o := outcome(err)
	o.Response = answer.carrier()
	call.End(o)
}

func (s *server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	m := unregistered
	if srv != nil {
		m = s.method(info.FullMethod)
	}
	ctx, call := s.start(ss.Context(), info.FullMethod, m)
	stream := &serverStream{ServerStream: ss, ctx: ctx}
	if s.tracing.CapturesResponses() {
		stream.ctx, stream.answer = s.capture(ctx, call)
	}
	returned := false
	defer func() {
		if !returned {
			stream.describe(call)
			endPanicking(call, recover())
		}
	}()
	err = handler(srv, stream)
	returned = true
	stream.describe(call)
	if srv == nil {
		describeUnregistered(call, info.FullMethod, err)
	}
	end(call, err, stream.answer)
	return err
}

func (s *server) method(full string) *method {
	return s.methods.get(full, func(full string) *method { return newMethod(full) })
}

// unregistered is the method of calls that no registered service answers, until it is
// known who does.
var unregistered = &method{name: noName, attrs: []attribute.KeyValue{semconv.RPCSystemName.String("grpc")}}

// describeUnregistered puts the method on the span of a call that no registered
// service answered. What a handler of the program's own answered, as in a proxy, is a
// method; what nobody implements is a stranger's word.
func describeUnregistered(call *middleware.Call, full string, err error) {
	if !call.Span().IsRecording() {
		return
	}
	name := span.RPCName(full)
	if isUnimplemented(err) || name == noName {
		call.SetAttributes(unknownMethod(full)...)
		return
	}
	call.SetName(name)
	call.SetAttributes(semconv.RPCMethod.String(name))
}

// start starts the span of a call and puts the request id into the response headers
// where it belongs there.
func (s *server) start(ctx context.Context, full string, m *method) (context.Context, *middleware.Call) {
	in := newIncoming(ctx)
	addr, port := peerOf(ctx)
	ctx, call := s.tracing.StartServer(ctx, middleware.Incoming{
		Name:       m.name,
		Carrier:    in,
		Peer:       addr,
		Unix:       !addr.IsValid() && onUnixSocket(ctx),
		Method:     full,
		Attributes: m.attrs,
	})
	if call.Span().IsRecording() {
		describe(call, in, addr, port)
	}
	if id, ok := call.ResponseID(); ok {
		answer(ctx, string(id))
	}
	return ctx, call
}

// answer puts the request id into the response headers.
//
//go:noinline
func answer(ctx context.Context, id string) {
	if sendable(requestIDKey, id) {
		// It fails only where there is no stream to set headers on.
		_ = grpc.SetHeader(ctx, metadata.MD{requestIDKey: {id}})
	}
}

// describe puts on the span what the call says of itself.
//
//go:noinline
func describe(call *middleware.Call, in incoming, addr netip.Addr, port int) {
	var room [5]attribute.KeyValue
	attrs := room[:0]
	host, asked := splitHostPort(in.Get(authority))
	attrs = appendServer(attrs, host, asked)
	if addr.IsValid() {
		attrs = append(attrs, semconv.NetworkPeerAddress.String(addr.String()), semconv.NetworkPeerPort.Int(port))
	}
	if n := previousAttempts(in); n > 0 {
		attrs = append(attrs, semconv.PreviousAttempts.Int(n))
	}
	call.SetAttributes(attrs...)
}

// requestIDKey is x-request-id as a key of metadata.
const requestIDKey = "x-request-id"

// previousAttempts reads how often the client tried before, 0 where it does not say.
func previousAttempts(in incoming) int {
	v := in.Get("grpc-previous-rpc-attempts")
	if v == "" || len(v) > 4 {
		return 0
	}
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil {
		return 0
	}
	return int(n)
}

// onUnixSocket tells whether the direct peer is on a unix socket.
func onUnixSocket(ctx context.Context) bool {
	p, ok := peer.FromContext(ctx)
	return ok && p.Addr != nil && p.Addr.Network() == "unix"
}

// peerOf returns the address of the direct peer; invalid for a unix socket and where
// it is unknown.
func peerOf(ctx context.Context) (netip.Addr, int) {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return netip.Addr{}, 0
	}
	if tcp, ok := p.Addr.(*net.TCPAddr); ok {
		ap := tcp.AddrPort()
		return ap.Addr().Unmap(), int(ap.Port())
	}
	// A server behind net/http has only the text.
	if text := p.Addr.String(); strings.IndexByte(text, ':') < 0 {
		return netip.Addr{}, 0
	}
	ap, err := netip.ParseAddrPort(strings.TrimSpace(p.Addr.String()))
	if err != nil {
		return netip.Addr{}, 0
	}
	return ap.Addr().Unmap(), int(ap.Port())
}

// endPanicking ends a call whose handler did not return, and lets the panic go on.
func endPanicking(call *middleware.Call, v any) {
	call.End(ended(v))
	if v != nil { // nil is runtime.Goexit, which goes on by itself
		panic(v)
	}
}

// serverStream has the context of the span and counts messages. gRPC allows sending
// and receiving at once.
type serverStream struct {
	grpc.ServerStream
	ctx            context.Context
	sent, received atomic.Int64
	answer         *response // what the handler sets; nil: nobody asks
}

func (s *serverStream) SetHeader(md metadata.MD) error {
	err := s.ServerStream.SetHeader(md)
	s.answer.setHeader(md, err)
	return err
}

func (s *serverStream) SendHeader(md metadata.MD) error {
	err := s.ServerStream.SendHeader(md)
	s.answer.setHeader(md, err)
	return err
}

func (s *serverStream) SetTrailer(md metadata.MD) {
	s.ServerStream.SetTrailer(md)
	s.answer.setTrailer(md, nil)
}

func (s *serverStream) Context() context.Context { return s.ctx }

func (s *serverStream) SendMsg(m any) error {
	err := s.ServerStream.SendMsg(m)
	if err == nil {
		s.sent.Add(1)
	}
	return err
}

func (s *serverStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil {
		s.received.Add(1)
	}
	return err
}

func (s *serverStream) describe(call *middleware.Call) {
	if call.Span().IsRecording() {
		call.SetAttributes(semconv.MessagesSent.Int64(s.sent.Load()), semconv.MessagesReceived.Int64(s.received.Load()))
	}
}
