package tracegrpc

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrace/meshtrace/middleware"
)

// ServerOptions returns what grpc.NewServer needs to trace every call it serves.
// Interceptors of the program's own belong after them, so that they run inside the
// span:
//
//	grpc.NewServer(append(tracegrpc.ServerOptions(tracing), grpc.ChainUnaryInterceptor(auth))...)
//
// The options answer calls of unknown methods with UNIMPLEMENTED, as gRPC does by
// itself; a grpc.UnknownServiceHandler of the program's own after them takes its
// place. ServerOptions panics when t is nil.
func ServerOptions(t *middleware.Tracing) []grpc.ServerOption {
	s := newServer(t)
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(s.unary),
		grpc.ChainStreamInterceptor(s.stream),
		grpc.UnknownServiceHandler(unknown),
	}
}

// DialOptions returns what grpc.NewClient needs to trace every call of the
// connection. Interceptors of the program's own belong after them. DialOptions panics
// when t is nil.
func DialOptions(t *middleware.Tracing) []grpc.DialOption {
	c := newClient(t)
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(c.unary),
		grpc.WithChainStreamInterceptor(c.stream),
	}
}

// UnaryServerInterceptor is the part of ServerOptions that serves unary calls, for
// servers whose options are made elsewhere. It panics when t is nil.
func UnaryServerInterceptor(t *middleware.Tracing) grpc.UnaryServerInterceptor {
	return newServer(t).unary
}

// StreamServerInterceptor is the part of ServerOptions that serves streams. It panics
// when t is nil.
func StreamServerInterceptor(t *middleware.Tracing) grpc.StreamServerInterceptor {
	return newServer(t).stream
}

// UnaryClientInterceptor is the part of DialOptions that makes unary calls, for
// connections whose options are made elsewhere. It panics when t is nil.
func UnaryClientInterceptor(t *middleware.Tracing) grpc.UnaryClientInterceptor {
	return newClient(t).unary
}

// StreamClientInterceptor is the part of DialOptions that makes streams. It panics
// when t is nil.
func StreamClientInterceptor(t *middleware.Tracing) grpc.StreamClientInterceptor {
	return newClient(t).stream
}

func need(t *middleware.Tracing) *middleware.Tracing {
	if t == nil {
		panic("tracegrpc: the *middleware.Tracing is nil: give the one that middleware.Setup returned")
	}
	return t
}

// unknown answers calls of methods that nobody registered, and by being there lets
// the stream interceptor see them.
func unknown(_ any, ss grpc.ServerStream) error {
	full, _ := grpc.MethodFromServerStream(ss)
	return status.Errorf(codes.Unimplemented, "unknown service or method %s", bounded(full))
}
