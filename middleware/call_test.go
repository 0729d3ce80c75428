package middleware_test

import (
	"context"
	"errors"
	"maps"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/requestid"
	"github.com/meshtrace/meshtrace/span"
)

// TestCallQueue drives a transport that meshtrace does not know: a message goes
// out and comes in, and both ends share trace and request id.
func TestCallQueue(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{})
	message := otelprop.MapCarrier{}
	ctx, request := tracing.StartServer(context.Background(), middleware.Incoming{Name: "checkout", Method: "POST"})
	_, send := tracing.StartClient(ctx, middleware.Outgoing{Name: "send orders", Kind: trace.SpanKindProducer, Carrier: message, Attributes: []attribute.KeyValue{attribute.String("k", "v")}})
	send.End(middleware.Outcome{})
	request.End(middleware.Outcome{HTTPStatus: 202})

	ctx, receive := tracing.StartServer(context.Background(), middleware.Incoming{Name: "process orders", Kind: trace.SpanKindConsumer, Carrier: message})
	if got := requestid.FromContext(ctx); got == "" || got != request.RequestID() || receive.RequestID() != got {
		t.Errorf("request id at the consumer = %q, want the producer's %q", got, request.RequestID())
	}
	receive.End(middleware.Outcome{Err: errors.New("broken")})
	receive.End(middleware.Outcome{}) // only the first counts

	spans := waitEnded(t, rec, 3)
	for i, want := range []struct {
		name string
		kind trace.SpanKind
		code codes.Code
	}{{"send orders", trace.SpanKindProducer, codes.Unset}, {"checkout", trace.SpanKindServer, codes.Unset}, {"process orders", trace.SpanKindConsumer, codes.Error}} {
		if s := spans[i]; s.Name() != want.name || s.SpanKind() != want.kind || s.Status().Code != want.code {
			t.Errorf("span %d = %q %v %v, want %+v", i, s.Name(), s.SpanKind(), s.Status().Code, want)
		}
	}
	wantAttrs(t, spans[0], map[string]string{"k": "v"})
	if spans[2].Parent().SpanID() != spans[0].SpanContext().SpanID() {
		t.Errorf("consumer's parent = %v, want the producer %v", spans[2].Parent().SpanID(), spans[0].SpanContext().SpanID())
	}
}

// TestCallOutcome: all that a gateway knows at the end stands on the span, and
// gRPC's status has the last word (S-2, S-3).
func TestCallOutcome(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{})
	_, call := tracing.StartServer(context.Background(), middleware.Incoming{Method: "/pkg.Shop/Buy"})
	call.End(middleware.Outcome{
		HTTPStatus: 503, GRPCStatus: "0", RequestBytes: 3, ResponseBytes: 5,
		Flags:    []string{"URX", "UT"},
		Upstream: middleware.Upstream{Cluster: "backend", Address: "10.0.0.1:80", Attempt: 3},
	})
	s := one(t, rec)
	if s.Status().Code != codes.Unset {
		t.Errorf("status = %v, want Unset", s.Status())
	}
	wantAttrs(t, s, map[string]string{
		"http.response.status_code": "503", "rpc.response.status_code": "OK",
		"http.request.body.size": "3", "http.response.body.size": "5",
		"response_flags": "URX,UT", "upstream_cluster": "backend", "upstream_address": "10.0.0.1:80", "retry.count": "2",
	})
}

func TestCallGRPCStatus(t *testing.T) {
	for _, tt := range []struct {
		status, name string
		server       codes.Code
		client       codes.Code
	}{
		{"0", "OK", codes.Unset, codes.Unset},
		{"5", "NOT_FOUND", codes.Unset, codes.Error},
		{"8", "RESOURCE_EXHAUSTED", codes.Unset, codes.Error},
		{"14", "UNAVAILABLE", codes.Error, codes.Error},
		{"x", "UNKNOWN", codes.Error, codes.Error},
	} {
		tracing, rec := setup(t, middleware.Config{})
		ctx, server := tracing.StartServer(context.Background(), middleware.Incoming{Method: "/a.B/C"})
		_, client := tracing.StartClient(ctx, middleware.Outgoing{Name: "a.B/C"})
		client.End(middleware.Outcome{GRPCStatus: tt.status})
		server.End(middleware.Outcome{GRPCStatus: tt.status})
		spans := waitEnded(t, rec, 2)
		if spans[0].Status().Code != tt.client || spans[1].Status().Code != tt.server {
			t.Errorf("grpc-status %s: client %v, server %v, want %v, %v", tt.status, spans[0].Status().Code, spans[1].Status().Code, tt.client, tt.server)
		}
		wantAttrs(t, spans[1], map[string]string{"rpc.response.status_code": tt.name})
	}
}

// TestCallDisagreement: a second format that names another trace becomes a link.
func TestCallDisagreement(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{})
	_, call := tracing.StartServer(context.Background(), middleware.Incoming{Name: "x", Carrier: otelprop.MapCarrier{
		"traceparent": traceparent,
		"b3":          "463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-1",
	}})
	call.End(middleware.Outcome{})
	links := one(t, rec).Links()
	if len(links) != 1 || links[0].SpanContext.TraceID().String() != "463ac35c9f6413ad48485a3953bb6124" {
		t.Errorf("links = %+v, want the b3 context", links)
	}
}

// What became of headers is counted, also of requests that are not traced.
func TestHeaderCounts(t *testing.T) {
	tracing, _ := setup(t, middleware.Config{})
	for _, c := range []otelprop.MapCarrier{
		{"x-request-id": "125a4afb-6f55-44ba-ad80-413f09f48a28"},
		{"x-request-id": "a b", "traceparent": "00-zz"},
		{"traceparent": traceparent, "b3": "463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-1"},
		{"traceparent": unsampled, "b3": "463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-0", "baggage": "no member"},
	} {
		_, call := tracing.StartServer(t.Context(), middleware.Incoming{Carrier: c})
		call.End(middleware.Outcome{})
	}
	want := map[string]uint64{
		"request_id_kept": 1, "request_id_replaced": 1, "request_id_made": 2, "request_id_cleared": 0,
		"context_refused": 2, "context_disagreed": 2,
	}
	if got := tracing.HeaderCounts(); !maps.Equal(got, want) {
		t.Errorf("HeaderCounts = %v, want %v", got, want)
	}
}

// TestCallChildren: work inside a request, traced or not, needs no provider.
func TestCallChildren(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{})
	for _, header := range []string{traceparent, unsampled} {
		ctx, call := tracing.StartServer(context.Background(), middleware.Incoming{Name: "x", Carrier: otelprop.MapCarrier{"traceparent": header}})
		_, sp := span.Start(ctx, "work")
		sp.End()
		call.End(middleware.Outcome{})
	}
	if spans := rec.Ended(); len(spans) != 2 || spans[0].Name() != "work" || spans[0].Parent().SpanID() != spans[1].SpanContext().SpanID() {
		t.Errorf("spans = %v, want the traced request's two", spans)
	}
}

// TestCallInsideUntraced: a client call of a request that is not traced belongs to
// it and must not end its span.
func TestCallInsideUntraced(t *testing.T) {
	tracing, _ := setup(t, middleware.Config{})
	ctx, server := tracing.StartServer(context.Background(), middleware.Incoming{Name: "x", Carrier: otelprop.MapCarrier{"traceparent": unsampled}})
	carrier := otelprop.MapCarrier{}
	_, client := tracing.StartClient(ctx, middleware.Outgoing{Name: "y", Carrier: carrier})
	if client.Span().SpanContext().SpanID() != server.Span().SpanContext().SpanID() || carrier["traceparent"] == "" {
		t.Errorf("client of an untraced request sends %q, want its ids", carrier["traceparent"])
	}
	client.End(middleware.Outcome{Err: errors.New("no span of its own")})
	server.End(middleware.Outcome{})
}

// TestCallSetError: the program's word that a request failed counts beside a status
// that is none of an error.
func TestCallSetError(t *testing.T) {
	for _, o := range []middleware.Outcome{{HTTPStatus: 404}, {GRPCStatus: "5", Err: errors.New("not found")}, {}} {
		tracing, rec := setup(t, middleware.Config{})
		ctx, call := tracing.StartServer(context.Background(), middleware.Incoming{Method: "/a.B/C"})
		span.SetError(ctx, context.DeadlineExceeded)
		call.End(o)
		s := one(t, rec)
		if s.Status().Code != codes.Error {
			t.Errorf("outcome %+v: status = %v, want Error", o, s.Status())
		}
		wantAttrs(t, s, map[string]string{"error.type": "context.DeadlineExceeded"})
	}
}

// TestCallInsideSpan: a message that is taken inside of another span belongs to that
// span, and the sender's becomes a link.
func TestCallInsideSpan(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{})
	ctx, outer := tracing.TracerProvider().Tracer("other").Start(context.Background(), "poll")
	_, call := tracing.StartServer(ctx, middleware.Incoming{Name: "take", Kind: 99, Carrier: otelprop.MapCarrier{"traceparent": traceparent}})
	call.End(middleware.Outcome{})
	outer.End()
	s := rec.Ended()[0]
	if s.Parent().SpanID() != outer.SpanContext().SpanID() || len(s.Links()) != 1 || s.Links()[0].SpanContext.TraceID().String() != "4bf92f3577b34da6a3ce929d0e0e4736" {
		t.Errorf("span under %v with links %v, want it under the span around it with a link to the sender's", s.Parent().SpanID(), s.Links())
	}
	if s.SpanKind() != trace.SpanKindInternal {
		t.Errorf("kind 99 = %v, want %v as in the SDK", s.SpanKind(), trace.SpanKindInternal)
	}
}
