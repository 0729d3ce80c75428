package reqctx

import (
	"context"

	"go.opentelemetry.io/otel/trace"
)

// Node is the context node of a call's span. The call has it as a field, which saves an
// allocation; the span, which may be kept longer, has not. The zero value is ready.
type Node struct {
	context.Context // the parent
	span            trace.Span
}

// Below returns a context below ctx whose current span is span. It is n itself, so it is
// called once.
func (n *Node) Below(ctx context.Context, span trace.Span) context.Context {
	if spanKey == nil {
		return trace.ContextWithSpan(ctx, span)
	}
	n.Context, n.span = ctx, span
	return n
}

// Value answers for the node itself without allocating, else asks the parent.
func (n *Node) Value(k any) any {
	if k == spanKey {
		return n.span
	}
	return n.Context.Value(k)
}
