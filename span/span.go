package span

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/reqctx"
)

// scopeName is the instrumentation scope of the spans that Start makes.
const scopeName = "github.com/meshtrace/meshtrace/span"

// Start starts a child of the span in ctx, with the provider that span came from,
// so it needs neither a tracer nor a global. The caller ends the span. Its kind is
// INTERNAL unless opts say otherwise.
//
// Where ctx has no span, or one of another process alone, there is no provider: the
// span that comes back records nothing. In a request that is not traced it is the
// request's own span, and Start allocates nothing.
func Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	return trace.SpanFromContext(ctx).TracerProvider().Tracer(scopeName).Start(ctx, name, opts...)
}

// SetRoute tells the route of the request around ctx, for routers that do not
// leave it in http.Request.Pattern: "/carts/{id}". It becomes http.route and, with
// the method, the name of the server span. A method or host in front of the path is
// cut off. The last call before the end of the request counts, and it beats the
// router's own pattern. It may be called concurrently.
//
// A route is a template with few values, never the path itself.
func SetRoute(ctx context.Context, route string) {
	if s := reqctx.From(ctx); s != nil {
		s.SetRoute(route)
	}
}

// SetAttributes puts kv on the server span of the request around ctx, however many
// spans were started below it. For the current span alone there is
// trace.SpanFromContext(ctx).SetAttributes. It may be called concurrently.
func SetAttributes(ctx context.Context, kv ...attribute.KeyValue) {
	if s := reqctx.From(ctx); s != nil && s.Span != nil {
		s.Span.SetAttributes(kv...)
	}
}

// SetError makes the server span of the request around ctx an error although its
// status is none, such as a 200 that carries an error in its body. The span gets
// status Error, error.type and a description of err as in [StatusMap]. The last
// call before the end of the request counts; nil takes an earlier one back. It may
// be called concurrently.
func SetError(ctx context.Context, err error) {
	if s := reqctx.From(ctx); s != nil {
		s.SetError(err)
	}
}
