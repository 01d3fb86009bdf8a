# A service manager's end of sd_notify(3): python3 notify-socket.py ADDRESS [PATH]
# Binds a datagram socket (@NAME is abstract) and prints each message as a line of JSON, with what stat(2)
# says of PATH/hello at that moment. Ends with its standard input.
import json, os, select, socket, sys

address = sys.argv[1]
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
listener.bind("\0" + address[1:] if address.startswith("@") else address)
print(json.dumps("bound"), flush=True)
while True:
    ready, _, _ = select.select([listener, sys.stdin], [], [])
    if sys.stdin in ready:
        break
    data, ancillary, _, _ = listener.recvmsg(4096, 256)
    pid = int.from_bytes(ancillary[0][2][:4], "little")
    try:
        size = os.stat(os.path.join(sys.argv[2], "hello")).st_size
    except OSError as error:
        size = -error.errno
    print(json.dumps({"pid": pid, "lines": data.decode().split("\n"), "size": size}), flush=True)
