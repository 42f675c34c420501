// What bench/app.lua does, in node with the ws library, written as its documentation shows it.
//
//   NODE_PATH=... node node_ws.js
"use strict";

const { randomUUID } = require("node:crypto");
const http = require("node:http");
const { WebSocketServer } = require("ws");

const streams = new Set();

function publishToStreams(text) {
  for (const stream of streams) stream.write(`data: ${text}\n\n`);
}

function serveStream(response) {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.flushHeaders();
  streams.add(response);
  response.on("close", () => streams.delete(response));
}

function servePublication(request, response) {
  let body = "";
  request.setEncoding("utf8");
  request.on("data", (piece) => (body += piece));
  request.on("end", () => {
    publishToStreams(body);
    response.writeHead(204).end();
  });
}

const server = http.createServer((request, response) => {
  if (request.method === "POST" && request.url === "/sse-pub") {
    servePublication(request, response);
  } else if (request.url === "/sse") {
    serveStream(response);
  } else {
    response.end("Hello world!");
  }
});
server.keepAliveTimeout = 0;
server.maxRequestsPerSocket = 0;

const sockets = new WebSocketServer({ server, perMessageDeflate: false });
const listeners = new Set();
const rooms = new Map();

function join(set, socket) {
  set.add(socket);
  socket.on("close", () => set.delete(socket));
}

function publish(set, data) {
  for (const socket of set) socket.send(data, { binary: false });
}

function onRoomFrame(socket, id, data) {
  const frame = JSON.parse(data);
  let room = rooms.get(frame.room);
  if (!room) rooms.set(frame.room, (room = new Set()));
  if (frame.type === "join-room") {
    join(room, socket);
  } else if (frame.type === "room-message" && room.has(socket)) {
    const message = { room: frame.room, senderId: id, message: frame.data };
    publish(room, JSON.stringify({ type: "room-message", data: message }));
  }
}

sockets.on("connection", (socket, request) => {
  if (request.url === "/echo") {
    socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  } else if (request.url === "/room") {
    join(listeners, socket);
  } else if (request.url === "/pub") {
    socket.on("message", (data) => publish(listeners, data));
  } else if (request.url === "/rooms") {
    const id = randomUUID();
    socket.on("message", (data) => onRoomFrame(socket, id, data));
  }
});

process.on("SIGTERM", () => process.exit(0));
server.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
