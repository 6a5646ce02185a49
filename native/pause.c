// The process of a pod's sandbox: it holds the pod's namespaces, and in a shared pid namespace the kernel reaps for it.
#include <signal.h>
#include <unistd.h>

int main(void) {
    signal(SIGCHLD, SIG_IGN);
    for (;;) pause();
}
