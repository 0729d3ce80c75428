package otlpgrpc_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshtrace/meshtrace/exporter"
	"github.com/meshtrace/meshtrace/exporter/otlpgrpc"
	"github.com/meshtrace/meshtrace/internal/collectortest"
	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service answers calls of OTLP's trace service, which a *grpc.Server brings.
type service func(ctx context.Context, request []byte) (answer []byte, err error)

// raw leaves messages as they are on the wire.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

var serviceDesc = grpc.ServiceDesc{
	ServiceName: "opentelemetry.proto.collector.trace.v1.TraceService",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Export",
		Handler: func(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var request []byte
			if err := dec(&request); err != nil {
				return nil, err
			}
			answer, err := srv.(service)(ctx, request)
			return &answer, err
		},
	}},
}

// serve runs a gRPC server until the test ends and returns its address.
func serve(t *testing.T, s service, opts ...grpc.ServerOption) string {
	t.Helper()
	srv := grpc.NewServer(append(opts, grpc.ForceServerCodecV2(raw{}))...)
	srv.RegisterService(&serviceDesc, s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

func dial(t *testing.T, addr string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+addr, append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

// send sends and takes the error apart.
func send(t *testing.T, s exporter.Sender, request []byte) (rejected int, se *exporter.SendError) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	rejected, err := s.Send(ctx, request, 1)
	if err != nil && !errors.As(err, &se) {
		t.Fatalf("Send: %v is a %T, want a *exporter.SendError", err, err)
	}
	return rejected, se
}

func TestRequestArrivesAsItIs(t *testing.T) {
	var got []byte
	var md metadata.MD
	addr := serve(t, func(ctx context.Context, request []byte) ([]byte, error) {
		got = request
		md, _ = metadata.FromIncomingContext(ctx)
		return nil, nil
	})
	for name, opts := range map[string][]grpc.DialOption{
		"plain": nil,
		"gzip":  {grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name))},
	} {
		s := otlpgrpc.New(dial(t, addr, opts...))
		for _, size := range []int{0, 1, 1 << 10, 100 << 10, 4<<20 - 64<<10} {
			request := make([]byte, size)
			for i := range request {
				request[i] = byte(i * i >> 3)
			}
			if rejected, err := send(t, s, request); rejected != 0 || err != nil {
				t.Errorf("%s, %d bytes: Send = %d, %v", name, size, rejected, err)
			}
			if !bytes.Equal(got, request) {
				t.Errorf("%s, %d bytes: other bytes arrive, %d of them", name, size, len(got))
			}
		}
		if kind := md.Get("content-type"); len(kind) != 1 || kind[0] != "application/grpc+proto" && kind[0] != "application/grpc" {
			t.Errorf("%s: content-type is %q", name, kind)
		}
	}
}

func TestStatus(t *testing.T) {
	var answer error
	s := otlpgrpc.New(dial(t, serve(t, func(context.Context, []byte) ([]byte, error) { return nil, answer })))
	for code, want := range map[codes.Code]exporter.SendError{
		codes.Canceled:           {Code: "CANCELLED", Retry: true},
		codes.Unknown:            {Code: "UNKNOWN"},
		codes.InvalidArgument:    {Code: "INVALID_ARGUMENT"},
		codes.DeadlineExceeded:   {Code: "DEADLINE_EXCEEDED", Retry: true},
		codes.NotFound:           {Code: "NOT_FOUND"},
		codes.AlreadyExists:      {Code: "ALREADY_EXISTS"},
		codes.PermissionDenied:   {Code: "PERMISSION_DENIED", Advice: "credentials"},
		codes.ResourceExhausted:  {Code: "RESOURCE_EXHAUSTED"},
		codes.FailedPrecondition: {Code: "FAILED_PRECONDITION"},
		codes.Aborted:            {Code: "ABORTED", Retry: true},
		codes.OutOfRange:         {Code: "OUT_OF_RANGE", Retry: true},
		codes.Unimplemented:      {Code: "UNIMPLEMENTED", Advice: "OTLP receiver"},
		codes.Internal:           {Code: "INTERNAL"},
		codes.Unavailable:        {Code: "UNAVAILABLE", Retry: true},
		codes.DataLoss:           {Code: "DATA_LOSS", Retry: true},
		codes.Unauthenticated:    {Code: "UNAUTHENTICATED", Advice: "credentials"},
		codes.Code(99):           {Code: "UNKNOWN"},
	} {
		t.Run(fmt.Sprint(want.Code, " ", uint32(code)), func(t *testing.T) {
			answer = status.Error(code, "try\nthe other\x1b one")
			rejected, got := send(t, s, []byte("x"))
			if got == nil || rejected != 0 || got.Code != want.Code || got.Retry != want.Retry || got.After != 0 || got.Status != 0 {
				t.Fatalf("Send = %d, %+v, want %+v", rejected, got, want)
			}
			if text := got.Error(); !strings.Contains(text, `try\nthe other\x1b one`) || !strings.Contains(text, want.Advice) {
				t.Errorf("Error() = %s", text)
			}
		})
	}

	t.Run("RetryInfo", func(t *testing.T) {
		for code, retry := range map[codes.Code]bool{codes.Unavailable: true, codes.ResourceExhausted: true, codes.Internal: false} {
			st, err := status.New(code, "later").WithDetails(&errdetails.DebugInfo{Detail: "x"}, &errdetails.RetryInfo{RetryDelay: durationpb.New(7 * time.Second)})
			if err != nil {
				t.Fatal(err)
			}
			answer = st.Err()
			want := time.Duration(0)
			if retry {
				want = 7 * time.Second
			}
			if _, got := send(t, s, []byte("x")); got == nil || got.Retry != retry || got.After != want {
				t.Errorf("%v with RetryInfo: Send = %+v, want Retry %v After %v", code, got, retry, want)
			}
		}
	})
	t.Run("long message", func(t *testing.T) {
		answer = status.Error(codes.Internal, strings.Repeat("é", 3000))
		if _, got := send(t, s, []byte("x")); got == nil || len(got.Err.Error()) > 1000 {
			t.Errorf("Send = %v", got)
		}
	})
}

func TestAnswer(t *testing.T) {
	var answer []byte
	s := otlpgrpc.New(dial(t, serve(t, func(context.Context, []byte) ([]byte, error) { return answer, nil })))
	for name, c := range map[string]struct {
		answer   []byte
		rejected int
		code     string
		text     string
	}{
		"empty":             {nil, 0, "", ""},
		"partial success":   {otlpwire.AppendResponse(nil, 3, "bad\nids"), 3, exporter.CodePartialSuccess, `rejected 3 of a request's spans: "bad\nids"`},
		"warning":           {otlpwire.AppendResponse(nil, 0, "old schema"), 0, exporter.CodePartialSuccess, `remarks: "old schema"`},
		"not protobuf":      {[]byte{0xff, 0xff, 0xff}, 0, exporter.CodePartialSuccess, "could not be read"},
		"more than 4 MiB":   {make([]byte, 4<<20+1), 0, "RESOURCE_EXHAUSTED", "larger than 4 MiB"},
		"unknown fields":    {[]byte{0x78, 1}, 0, "", ""},
		"more than 2^31-1":  {otlpwire.AppendResponse(nil, 1<<40, "all"), 1<<31 - 1, exporter.CodePartialSuccess, "all"},
		"a negative number": {otlpwire.AppendResponse(nil, -1, "?"), 0, exporter.CodePartialSuccess, "remarks"},
	} {
		answer = c.answer
		rejected, got := send(t, s, []byte("x"))
		var code, text string
		if got != nil {
			code, text = got.Code, got.Error()
			if got.Retry {
				t.Errorf("%s: to be repeated", name)
			}
		}
		if rejected != c.rejected || code != c.code || !strings.Contains(text, c.text) || c.text == "" && text != "" {
			t.Errorf("%s: Send = %d, %s %q; want %d, %s %q", name, rejected, code, text, c.rejected, c.code, c.text)
		}
	}
}

func TestConcurrent(t *testing.T) {
	s := otlpgrpc.New(dial(t, serve(t, func(_ context.Context, request []byte) ([]byte, error) {
		return otlpwire.AppendResponse(nil, int64(request[0]), string(request[1:2])), nil
	})))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			request := bytes.Repeat([]byte{byte('a' + g)}, 10_000)
			for n := range 50 {
				request[0] = byte(n + 1)
				rejected, err := s.Send(t.Context(), request, 100)
				if rejected != n+1 || err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", string(request[1:2]))) {
					t.Errorf("Send %d of goroutine %d = %d, %v", n, g, rejected, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestNoAnswer(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	plain := serve(t, func(context.Context, []byte) ([]byte, error) { return nil, nil })
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.EnableHTTP2 = true
	secure.Config.ErrorLog = nil
	secure.StartTLS()
	defer secure.Close()
	overTLS := grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{}))

	for name, c := range map[string]struct {
		addr   string
		opts   []grpc.DialOption
		text   string
		advice string
	}{
		"refused":             {closed.Addr().String(), nil, "refused", ""},
		"HTTP/1":              {web.Listener.Addr().String(), nil, "HTTP/1.1", "gRPC port (4317)"},
		"TLS to plaintext":    {plain, []grpc.DialOption{overTLS}, "handshake", "credentials/insecure"},
		"unknown certificate": {secure.Listener.Addr().String(), []grpc.DialOption{overTLS}, "certificate", "transport credentials"},
	} {
		t.Run(name, func(t *testing.T) {
			rejected, got := send(t, otlpgrpc.New(dial(t, c.addr, c.opts...)), []byte("x"))
			if got == nil || rejected != 0 || got.Code != "" || !got.Retry || got.After != 0 {
				t.Fatalf("Send = %d, %+v, want one without a code that may be repeated", rejected, got)
			}
			if !strings.Contains(got.Err.Error(), c.text) || !strings.Contains(got.Advice, c.advice) {
				t.Errorf("Send says %s", got)
			}
		})
	}
}

func TestEndsWithItsContext(t *testing.T) {
	s := otlpgrpc.New(dial(t, serve(t, func(ctx context.Context, _ []byte) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err := s.Send(ctx, []byte("x"), 1)
	var se *exporter.SendError
	if !errors.As(err, &se) || se.Code != "" || !se.Retry {
		t.Errorf("Send = %v, want an error without a code that may be repeated", err)
	}
}

// An error that is no status of gRPC comes from an interceptor.
func TestInterceptorsError(t *testing.T) {
	mine := errors.New("no token today")
	s := otlpgrpc.New(dial(t, "127.0.0.1:1", grpc.WithUnaryInterceptor(
		func(context.Context, string, any, any, *grpc.ClientConn, grpc.UnaryInvoker, ...grpc.CallOption) error {
			return mine
		})))
	if _, got := send(t, s, []byte("x")); got == nil || !got.Retry || !errors.Is(got, mine) {
		t.Errorf("Send = %v, want %v that may be repeated", got, mine)
	}
}

func TestCloseLeavesTheConnection(t *testing.T) {
	cc := dial(t, serve(t, func(context.Context, []byte) ([]byte, error) { return nil, nil }))
	first, second := otlpgrpc.New(cc), otlpgrpc.New(cc)
	if err := first.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := send(t, second, []byte("x")); err != nil {
		t.Errorf("Send after another Sender's Close: %v", err)
	}
	if st := cc.GetState(); st != connectivity.Ready {
		t.Errorf("the connection is %v after Close, want READY", st)
	}
}

func TestNilConnection(t *testing.T) {
	defer func() {
		if v := recover(); v == nil || !strings.Contains(fmt.Sprint(v), "nil") {
			t.Errorf("New(nil) panics with %v, want words about nil", v)
		}
	}()
	otlpgrpc.New(nil)
}

// over runs n spans through an Exporter to c over gRPC.
func over(t *testing.T, cc grpc.ClientConnInterface, n, bytes int) (*exporter.Exporter, func()) {
	t.Helper()
	exp, err := exporter.New(exporter.Config{
		Sender: otlpgrpc.New(cc), Delay: 10 * time.Millisecond,
		Getenv: func(string) string { return "" },
	})
	if err != nil {
		t.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(exp), sdktrace.WithSampler(sdktrace.AlwaysSample()))
	pad := attribute.String("padding", strings.Repeat("x", bytes))
	end := func() {
		for range n {
			_, span := provider.Tracer("test").Start(context.Background(), "span")
			span.SetAttributes(pad)
			span.End()
		}
	}
	return exp, end
}

// What the accounts say is what the collector's ledger has, whatever it did.
func TestAccounts(t *testing.T) {
	for name, c := range map[string]struct {
		fault    collectortest.Fault
		opts     []collectortest.Option
		spans    int
		bytes    int
		rejected map[string]uint64
	}{
		"healthy":         {spans: 1000},
		"throttled":       {fault: collectortest.Fault{Refusal: collectortest.Throttle(300 * time.Millisecond).Refusal, Requests: 2}, spans: 1000},
		"reset":           {fault: collectortest.Fault{Reset: true, Requests: 2}, spans: 1000},
		"cut":             {fault: collectortest.Fault{Cut: true, Requests: 2}, spans: 1000},
		"unavailable":     {fault: collectortest.Fault{Refusal: collectortest.Status(503, 14).Refusal, Requests: 2}, spans: 1000},
		"partial success": {fault: collectortest.Fault{Reject: 1, Why: "no", Requests: 1}, spans: 1000, rejected: map[string]uint64{exporter.CodePartialSuccess: 1}},
		"large spans":     {opts: []collectortest.Option{collectortest.MaxBytes(1 << 20)}, spans: 200, bytes: 16 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			col := collectortest.Start(t, append(c.opts, collectortest.Faulty(c.fault))...)
			exp, end := over(t, dial(t, col.Addr()), c.spans, c.bytes)
			end()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			err := exp.Shutdown(ctx)
			var loss *exporter.LossError
			if errors.As(err, &loss) && loss.Lost == c.rejected[exporter.CodePartialSuccess] {
				err = nil
			}
			if err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			st := exp.Stats()
			if !st.Balanced() || st.Ended != uint64(c.spans) || st.Delivered != uint64(col.Unique()) ||
				st.Rejected[exporter.CodePartialSuccess] != uint64(col.Rejected()) || st.Kept.Memory != 0 || len(st.Dropped) != 0 {
				t.Errorf("the accounts are %+v; the ledger has %d unique, %d rejected", st, col.Unique(), col.Rejected())
			}
			if got := st.Rejected[exporter.CodePartialSuccess]; got != c.rejected[exporter.CodePartialSuccess] {
				t.Errorf("rejected %v, want %v", st.Rejected, c.rejected)
			}
		})
	}
}

// Without a Sender that asks for it, a connection with this backoff is not made again
// while the test lasts.
func TestReconnectsAtOnce(t *testing.T) {
	col := collectortest.Start(t)
	hour := backoff.Config{BaseDelay: time.Hour, Multiplier: 1, MaxDelay: time.Hour}
	cc := dial(t, col.Addr(), grpc.WithConnectParams(grpc.ConnectParams{Backoff: hour, MinConnectTimeout: 5 * time.Second}))
	col.Refuse()
	exp, end := over(t, cc, 100, 0)
	end()
	for exp.Stats().Requests < 3 {
		time.Sleep(10 * time.Millisecond)
	}
	if st := exp.Stats(); st.Delivered != 0 || st.Kept.Memory == 0 || !st.Balanced() {
		t.Errorf("while the collector is away the accounts are %+v", st)
	}
	col.Reopen()
	col.Wait(100)
	if err := exp.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if st := exp.Stats(); st.Delivered != 100 || !st.Balanced() {
		t.Errorf("the accounts are %+v, want 100 delivered", st)
	}
}
