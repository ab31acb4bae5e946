# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034 # real-kernel reads what is not read here
#
# The nodes of the machine, as QEMU wants them (sourced by real-kernel).
#
# topology_read WORDS takes the words of a story's machine line, later words winning over earlier
# ones, and fills topology_arguments and topology_cpus:
#
#     nodes=4  memory=1G | memory=1G,0,512M,1G  cpus=4 | cpus=0-1@0,2-3@1  distance=10,20,...
#
# A word with an empty value stands for its default. Without nodes=, a list says how many there
# are. Every cpu is a socket of its own: the kernel warns when cpus of two nodes share a cache. A
# node of size 0 is one without memory; the kernel sees it only when it has a cpu.

topology_arguments=() topology_cpus=0

topology_read() {
    local word nodes='' memory='' cpus='' distance=''
    for word in $1; do
        case $word in
        nodes=*) nodes=${word#*=} ;;
        memory=*) memory=${word#*=} ;;
        cpus=*) cpus=${word#*=} ;;
        distance=*) distance=${word#*=} ;;
        *) die "topology: $word is none of nodes=, memory=, cpus=, distance=" ;;
        esac
    done
    local sizes=() cpu_node=()
    topology_sizes "$nodes" "${memory:-1G}"
    nodes=${#sizes[@]}
    topology_place_cpus "$nodes" "${cpus:-$nodes}"
    topology_describe "$nodes"
    topology_distances "$nodes" "$distance"
}

# Fills sizes: the bytes of each node, in MiB.
topology_sizes() {
    local count=$1 size list=()
    IFS=, read -ra list <<<"$2"
    if ((${#list[@]} == 1)); then
        count=${count:-4}
    else
        count=${count:-${#list[@]}}
    fi
    [[ $count =~ ^([1-9]|[1-5][0-9]|6[0-4])$ ]] ||
        die "topology: nodes=$count: 1 to 64 are expected"
    ((${#list[@]} == 1 || ${#list[@]} == count)) ||
        die "topology: memory=$2 has ${#list[@]} entries for $count nodes"
    while ((${#list[@]} < count)); do
        list+=("${list[0]}")
    done
    for size in "${list[@]}"; do
        case $size in
        0) sizes+=(0) ;;
        [1-9]*M) sizes+=("${size%M}") ;;
        [1-9]*G) sizes+=("$((${size%G} * 1024))") ;;
        *) die "topology: memory $size: a size such as 512M or 1G, or 0, is expected" ;;
        esac
    done
}

# Fills cpu_node: the node of each cpu.
topology_place_cpus() {
    local count=$1 part cpu first last node list=()
    if [[ $2 =~ ^[0-9]+$ ]]; then
        (($2 >= 1 && $2 <= 255)) || die "topology: cpus=$2: 1 to 255 are expected"
        for ((cpu = 0; cpu < $2; cpu++)); do
            cpu_node[cpu]=$((cpu % count))
        done
        return
    fi
    IFS=, read -ra list <<<"$2"
    for part in "${list[@]}"; do
        [[ $part =~ ^([0-9]+)(-([0-9]+))?@([0-9]+)$ ]] ||
            die "topology: cpus: $part: CPU@NODE or FIRST-LAST@NODE is expected"
        first=${BASH_REMATCH[1]} last=${BASH_REMATCH[3]:-${BASH_REMATCH[1]}}
        node=${BASH_REMATCH[4]}
        ((node < count)) || die "topology: cpus: $part: there are $count nodes"
        for ((cpu = first; cpu <= last; cpu++)); do
            cpu_node[cpu]=$node
        done
    done
    for ((cpu = 0; cpu < ${#cpu_node[@]}; cpu++)); do
        [[ ${cpu_node[cpu]+set} ]] || die "topology: cpus=$2: cpu $cpu is missing"
    done
}

topology_describe() {
    local node cpu total=0 description
    for ((node = 0; node < $1; node++)); do
        description=node,nodeid=$node
        for cpu in "${!cpu_node[@]}"; do
            if ((cpu_node[cpu] == node)); then
                description+=,cpus=$cpu
            fi
        done
        if ((sizes[node])); then
            topology_arguments+=(-object "memory-backend-ram,id=m$node,size=${sizes[node]}M")
            description+=,memdev=m$node
        fi
        topology_arguments+=(-numa "$description")
        total=$((total + sizes[node]))
    done
    ((total >= 128)) || die "topology: ${total}M of memory: the kernel needs 128M or more"
    topology_cpus=${#cpu_node[@]}
    topology_arguments+=(-m "${total}M" -smp "$topology_cpus,sockets=$topology_cpus"
        -machine "pc,max-ram-below-4g=$(topology_low)M")
}

# Memory below 4G: node 0's, so that the other nodes have nothing but a zone Normal, as in a server,
# and what the kernel and QEMU put below 4G does not cost memory of the other nodes.
topology_low() {
    local low=${sizes[0]}
    ((low)) || low=1024
    echo $((low < 256 ? 256 : low > 3072 ? 3072 : low))
}

topology_distances() {
    local count=$1 from to list=()
    [[ $2 ]] || return 0
    IFS=, read -ra list <<<"$2"
    ((${#list[@]} == count * count)) ||
        die "topology: distance has ${#list[@]} entries, not $count x $count"
    for ((from = 0; from < count; from++)); do
        for ((to = 0; to < count; to++)); do
            topology_arguments+=(-numa "dist,src=$from,dst=$to,val=${list[from * count + to]}")
        done
    done
}
