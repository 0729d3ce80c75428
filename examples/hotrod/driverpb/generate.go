// Package driverpb holds the messages and the service of hotrod's driver
// service, generated from driver.proto.
//
// go generate needs protoc (tried with 3.21.12, Debian's protobuf-compiler); the
// two plugins are installed, pinned, into the .tools folder of the checkout.
package driverpb

//go:generate env GOBIN=$PWD/../../../.tools go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.11
//go:generate env GOBIN=$PWD/../../../.tools go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
//go:generate protoc --plugin=../../../.tools/protoc-gen-go --plugin=../../../.tools/protoc-gen-go-grpc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative driver.proto
